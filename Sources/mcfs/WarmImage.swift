internal import Glibc
internal import Inventory
internal import KernelCaches
internal import MCFSCore
internal import OCI

/// The image that a warmed cache is pushed as, in the format of Model Cache Vault. The program that ran the container makes
/// and pushes it, with what its user has for the registry.
struct WarmImage {
    let runtime: EngineContainer.Runtime
    let reference: ImageReference
    /// Of the cache, absolute.
    let directory: String

    /// What `--push` takes.
    ///
    /// - Throws: `usage`.
    static func reference(_ text: String) throws(MCFSError) -> ImageReference {
        let reference = try ImageReference(text)
        guard reference.digest == nil else {
            throw MCFSError(
                .usage, "'\(text)' cannot be pushed to: a digest names what is there already; write HOST/REPO:TAG")
        }
        return reference
    }

    /// As podman and docker take it.
    var name: String { "\(reference.name):\(reference.manifestReference)" }

    /// As mcfs takes it.
    var text: String { ImageReference.scheme + name }

    /// What runs, as a shell reads it.
    var lines: [String] {
        ["\(UserProgram.quoted(context)) | \(UserProgram.quoted(building))", UserProgram.quoted(pushing)]
    }

    /// - Parameter cacheRoot: where the engine had the cache.
    /// - Throws: `unsupported` for a folder without kernels, `cannotCreate`, `localIO`, `failed`. The folder is kept.
    func make(cacheRoot: String) throws(MCFSError) {
        do throws(MCFSError) {
            let description = try CacheImageDescription(folder: directory, root: cacheRoot)
            defer { removeWorkspace() }
            try makeWorkspace(description)
            let status = try UserProgram.run(building, reading: context)
            guard status == 0 else {
                throw MCFSError(.failed, "\(runtime.rawValue) build or tar ended with status \(status)")
            }
        } catch {
            throw MCFSError(
                error.code, "cannot make the image \(name): \(error.message); the cache is kept in \(directory)",
                cause: error)
        }
    }

    /// - Throws: `failed`. The image is kept.
    func push() throws(MCFSError) {
        let status = try UserProgram.run(pushing, input: false)
        guard status == 0 else {
            let again = UserProgram.quoted(pushing)
            throw MCFSError(
                .failed,
                "cannot push the image: '\(again)' ended with status \(status); the image \(name) and the cache in \(directory) are kept, so after '\(runtime.rawValue) login \(reference.host)' it can be run again"
            )
        }
    }

    // MARK: - Commands

    /// The folder of the cache stays as it is, and what is beside it need not be readable: tar puts together what the
    /// build is to see. Any podman and docker reads that; `--build-context` needs new ones.
    private var context: [String] {
        [
            "tar", "--create", "--transform", #"s,^\.,cache,S"#, "--directory", directory, ".", "--directory",
            workspace,
            "Dockerfile", "manifest",
        ]
    }

    private var building: [String] {
        // Podman would keep each step as an image of its own.
        let options = runtime == .podman ? ["--layers=false"] : []
        return [runtime.rawValue, "build"] + options + ["--tag", name, "-"]
    }

    private var pushing: [String] {
        // Registries on this machine speak plain HTTP. Docker knows that.
        let options =
            runtime == .podman && RegistryHosts.scheme(of: reference.host) == "http" ? ["--tls-verify=false"] : []
        return [runtime.rawValue, "push"] + options + [name]
    }

    // MARK: - Workspace

    /// Beside the cache, because its name says then what it belongs to.
    private var workspace: String { directory + ".image" }

    private func makeWorkspace(_ description: CacheImageDescription) throws(MCFSError) {
        for folder in [workspace, "\(workspace)/manifest"] where mkdir(folder, 0o755) != 0 {
            throw MCFSError(.cannotCreate, "cannot make the folder \(folder): \(Errno.current)")
        }
        try write(description.manifest, to: "\(workspace)/manifest/manifest.json")
        try write(Array(Self.dockerfile(description).utf8), to: "\(workspace)/Dockerfile")
    }

    private func removeWorkspace() {
        for file in ["Dockerfile", "manifest/manifest.json"] { unlink("\(workspace)/\(file)") }
        for folder in ["\(workspace)/manifest", workspace] { rmdir(folder) }
    }

    private func write(_ bytes: [UInt8], to path: String) throws(MCFSError) {
        do throws(Errno) {
            let file = try OwnedDescriptor.open(path, O_WRONLY | O_CREAT | O_EXCL, mode: 0o644)
            try bytes.withBytes { buffer throws(Errno) in try file.write(buffer, at: 0) }
        } catch {
            throw MCFSError(localIO: "write \(path)", error)
        }
    }

    /// In two stages, so that it is one layer: MCV reads the last one only.
    static func dockerfile(_ description: CacheImageDescription) -> String {
        let labels = description.labels.sorted { $0.key < $1.key }.map { "LABEL \(quoted($0.key))=\(quoted($0.value))" }
        let lines = [
            "FROM scratch AS image", "COPY cache /\(description.cacheFolder)/",
            "COPY manifest /\(description.manifestFolder)/", "FROM scratch", "COPY --from=image / /",
        ]
        return (lines + labels).joined(separator: "\n") + "\n"
    }

    /// As a Dockerfile has a word that is on one line.
    private static func quoted(_ text: String) -> String {
        "\"" + text.flatMap { #"\"$"#.contains($0) ? ["\\", $0] : [$0] } + "\""
    }
}
