internal import ArgumentParser
internal import ControlAPI
internal import Daemon
internal import Glibc
internal import MCFSCore

struct WarmCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "warm", abstract: "Run an engine's container once and keep the cache that it fills.",
        discussion: """
            The container gets the GPUs, MODEL_NAME, VLLM_CACHE_ROOT, and HF_TOKEN where that is set here; it is to load the
            model and end. The cache is kept in a new folder cache_<time> below --host-cache-dir, with --output in a tarball
            besides, and with --push in an image that mcfs mounts. What the container prints goes to standard error.
            """)

    @OptionGroup var common: CommonOptions

    @Option(help: ArgumentHelp("The model, such as facebook/opt-125m.", valueName: "model"))
    var model: String

    @Option(
        help: ArgumentHelp(
            "An image that loads MODEL_NAME and ends (default: \(EngineContainer.defaultImage(.nvidia)), or with --rocm \(EngineContainer.defaultImage(.amd))).",
            valueName: "image"))
    var image: String?

    @Flag(help: "Give it AMD's GPUs, not NVIDIA's.")
    var rocm = false

    @Option(help: "podman or docker (default: podman where it is installed, else docker).")
    var runtime: EngineContainer.Runtime?

    @Option(help: ArgumentHelp("Where the folder of the cache is made.", valueName: "dir"))
    var hostCacheDir = "."

    @Option(help: ArgumentHelp("Where the cache is in the container: VLLM_CACHE_ROOT.", valueName: "dir"))
    var engineCacheDir = "/root/.cache/vllm"

    @Option(
        help: ArgumentHelp(
            "One more variable of the container, as NAME=VALUE, or NAME with its value here; may be repeated.",
            valueName: "variable"))
    var env: [String] = []

    @Option(
        name: .shortAndLong, help: ArgumentHelp("Pack the cache into this file, a gzipped tarball.", valueName: "file"))
    var output: String?

    @Option(
        help: ArgumentHelp(
            "Make an image of the cache and push it there, as oci://HOST/REPO:TAG, with what podman or docker knows of the registry.",
            valueName: "reference"))
    var push: String?

    @Flag(help: "Print the commands, and run nothing.")
    var dryRun = false

    func validate() throws {
        if let push {
            do throws(MCFSError) { _ = try WarmImage.reference(push) } catch { throw ValidationError(error.message) }
        }
        if image?.hasPrefix("-") ?? false { throw ValidationError("'\(image ?? "")' is no image.") }
        if model.isEmpty { throw ValidationError("--model needs a model.") }
    }

    func run() throws {
        let directory = try newDirectory()
        let container = try container(in: directory)
        let image = try push.map {
            WarmImage(runtime: container.runtime, reference: try WarmImage.reference($0), directory: directory)
        }
        if dryRun {
            let packing = output.map { UserProgram.quoted(Self.packing(directory, to: $0)) }
            let lines = [UserProgram.quoted(container.command), packing].compactMap(\.self) + (image?.lines ?? [])
            return try common.output.result(DryRun(commands: lines), text: lines.joined(separator: "\n"))
        }
        guard mkdir(directory, 0o755) == 0 else {
            throw MCFSError(.cannotCreate, "cannot make the folder \(directory): \(Errno.current)")
        }
        // Ctrl-C ends the program that runs; this one then says what is left, and leaves nothing else.
        signal(SIGINT) { _ in }
        let status = try UserProgram.run(container.command, input: container.isInteractive)
        guard status == 0 else {
            throw MCFSError(
                .failed,
                "the container of \(container.image) ended with status \(status); what it left is in \(directory)")
        }
        let bytes = DirectoryUsage.bytes(directory)
        guard bytes > 0 else {
            throw MCFSError(
                .failed,
                "the container of \(container.image) ended well and left nothing at \(container.cacheRoot); does it use VLLM_CACHE_ROOT?"
            )
        }
        let file = try output.map { try Self.pack(directory, to: $0) }
        try image?.make(cacheRoot: container.cacheRoot)
        try image?.push()
        let text = [
            "\(directory): \(ByteSize.text(bytes))", file.map { "packed into \($0)" },
            image.map { "pushed to \($0.text)" },
        ]
        try common.output.result(
            WarmResult(
                bytes: bytes, directory: directory, image: container.image, output: file, pushed: image?.text),
            text: text.compactMap(\.self).joined(separator: "\n"))
    }

    private func container(in directory: String) throws(MCFSError) -> EngineContainer {
        let environment = Environment.ofThisProcess
        guard
            let runtime = runtime
                ?? EngineContainer.Runtime.allCases.first(where: { UserProgram.isOnPath($0.rawValue, environment) })
        else { throw MCFSError(.notFound, "neither podman nor docker is on PATH; install one of them") }
        let devices: EngineContainer.Devices = rocm ? .amd : .nvidia
        // By its name only: a value would stand in the list of processes.
        let token = environment["HF_TOKEN"] == nil ? [] : ["HF_TOKEN"]
        return EngineContainer(
            runtime: runtime, image: image ?? EngineContainer.defaultImage(devices), model: model, devices: devices,
            directory: directory, cacheRoot: engineCacheDir, variables: token + env,
            isInteractive: isatty(0) == 1 && isatty(2) == 1)
    }

    /// - Throws: `usage` for a path that a volume cannot have.
    private func newDirectory() throws(MCFSError) -> String {
        var now = time(nil)
        var parts = tm()
        localtime_r(&now, &parts)
        var name = [CChar](repeating: 0, count: 64)
        strftime(&name, name.count, "cache_%Y-%m-%d_%H-%M-%S", &parts)
        let parent = UserPath.canonical(hostCacheDir, relativeTo: Configuration.currentDirectory())
        for path in [parent, engineCacheDir]
        where !path.hasPrefix("/") || path.contains(where: { $0 == ":" || $0.isNewline }) {
            throw MCFSError(.usage, "'\(path)' cannot be a volume: it must be absolute, without colon and line break")
        }
        return (parent == "/" ? "" : parent) + "/"
            + String(decoding: name.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    private static func packing(_ directory: String, to file: String) -> [String] {
        ["tar", "--create", "--gzip", "--file", file, "--directory", directory, "."]
    }

    /// - Returns: the file's path, absolute. It is there whole, or not at all.
    private static func pack(_ directory: String, to file: String) throws(MCFSError) -> String {
        let path = UserPath.canonical(file, relativeTo: Configuration.currentDirectory())
        let partial = "\(path).partial"
        let status = try UserProgram.run(packing(directory, to: partial), input: false)
        guard status == 0, rename(partial, path) == 0 else {
            unlink(partial)
            throw MCFSError(
                .localIO, "cannot pack \(directory) into \(path): tar ended with status \(status); the folder is kept")
        }
        return path
    }
}

private struct DryRun: Encodable { var commands: [String] }

/// `mcfs warm --json`.
private struct WarmResult: Encodable {
    var bytes: UInt64
    var directory: String
    var image: String
    var output: String?
    /// The reference of the image that was pushed.
    var pushed: String?
}
