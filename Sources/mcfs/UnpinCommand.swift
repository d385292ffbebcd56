internal import ArgumentParser

struct UnpinCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "unpin", abstract: "Allow eviction again.")

    @OptionGroup var common: CommonOptions
    @OptionGroup var filter: FilterOptions

    @Argument(help: "A reference, or a path below a mountpoint.")
    var target: String

    func run() throws { try PinChange.run("DELETE", target, filter, common) { "unpinned \($0)" } }
}
