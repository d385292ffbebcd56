internal import ArgumentParser
internal import GPUCompat
internal import Inventory
internal import MCFSCore

/// Which kernels are meant.
struct KernelFilterOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Kernels of this name; may hold *, ? and [a-z].", valueName: "name"))
    var name: String?

    @Option(help: ArgumentHelp("cuda, hip, or rocm, which is hip.", valueName: "backend"))
    var backend: BackendArgument?

    @Option(
        help: ArgumentHelp(
            "Built for this architecture, such as sm_90 or gfx942, or for that of a product, such as H100.",
            valueName: "arch"), transform: Self.architecture)
    var arch: Architecture?

    @Option(help: ArgumentHelp("Not changed for this long: 45m, 12h, 30d, 2w.", valueName: "age"))
    var olderThan: Age?

    @Option(help: ArgumentHelp("Changed within this time.", valueName: "age"))
    var youngerThan: Age?

    @Option(help: ArgumentHelp("Found by engines less often than this.", valueName: "count"))
    var hitsBelow: UInt64?

    @Option(help: ArgumentHelp("Found by engines more often than this.", valueName: "count"))
    var hitsAbove: UInt64?

    var filter: KernelFilter {
        KernelFilter(
            name: name, backend: backend?.backend, arch: arch, olderThan: olderThan, youngerThan: youngerThan,
            hitsBelow: hitsBelow, hitsAbove: hitsAbove)
    }

    private static func architecture(_ text: String) throws -> Architecture {
        do { return try GPUSpec.architecture(named: text) } catch { throw ValidationError(error.message) }
    }

    func validate() throws {
        do { try filter.check() } catch { throw ValidationError(error.message) }
    }
}

struct BackendArgument: ExpressibleByArgument {
    let backend: KernelBackend

    init?(argument: String) {
        guard let backend = KernelBackend(name: argument.lowercased()) else { return nil }
        self.backend = backend
    }
}

extension Age: ExpressibleByArgument {
    package init?(argument: String) { self.init(argument) }
}

extension KernelOrder: ExpressibleByArgument {}
