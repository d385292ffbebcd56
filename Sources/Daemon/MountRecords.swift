internal import Catalog
internal import ControlAPI
internal import Glibc
internal import MCFSCore
internal import Origins
internal import Synchronization

/// A mount as it is kept for after the end of its daemon. Nothing of it is a credential.
struct MountRecord: Codable, Sendable {
    struct Reference: Codable, Sendable {
        /// `[SUBDIR=]REFERENCE`; folders are absolute.
        var text: String
        var resolved: String
        var treeKey: String
        var entries: Int
        var bytesTotal: UInt64
    }

    /// `request.references` is empty: `references` has them.
    var request: MountRequest
    var references: [Reference]
    /// Why it cannot be made again from what is kept; nil: it can.
    var lacks: String?
    /// When it was begun to be made again, by daemons that ended over it: seconds since 1970.
    var attempts: [Double] = []

    /// The mount was made with what `request` says.
    init(_ request: MountRequest, _ loaded: [LoadedReference]) {
        self.request = request
        self.request.references = []
        self.request.caller.environment = Self.withoutSecrets(request.caller.environment)
        references = loaded.map {
            Reference(
                text: Origins.Reference.withoutPassword($0.text), resolved: $0.resolution.resolved,
                treeKey: $0.resolution.treeKey, entries: $0.tree.count, bytesTotal: Residency($0.tree).bytesTotal)
        }
        if request.references.contains(where: Self.holdsSecret) {
            lacks = "its reference holds a password or a signature, which is not kept"
        }
    }

    private static func holdsSecret(_ reference: String) -> Bool {
        let shown = Origins.Reference.withoutPassword(reference)
        func count(_ text: String, _ mark: String) -> Int { text.ranges(of: mark).count }
        return count(shown, "@") < count(reference, "@") || count(shown, "hidden-") > count(reference, "hidden-")
    }

    /// Whether daemons ended so often, and so soon after each other, while they made it.
    var isSuspended: Bool {
        guard attempts.count >= Self.attemptsMax, let last = attempts.last else { return false }
        return last - attempts[attempts.count - Self.attemptsMax] <= Self.attemptsSeconds
    }

    /// What keeps it from being made again by itself.
    var hindrance: String? {
        if let lacks { return lacks + "; mount it with 'mcfs mount'" }
        guard isSuspended else { return nil }
        return
            "the daemon ended \(Self.attemptsMax) times within a minute while it made this mount; 'mcfs mount --all' tries it again"
    }

    private static let attemptsMax = 3
    private static let attemptsSeconds: Double = 60

    /// As `status` shows a mount that nobody serves.
    func status(_ problem: String) -> MountStatus {
        MountStatus(
            mountpoint: request.mountpoint, state: .dead, readOnly: request.readOnly,
            upper: request.readOnly ? request.upper : request.upper ?? request.mountpoint, upperBytes: nil,
            references: references.map {
                MountStatus.Reference(
                    reference: $0.text, resolved: $0.resolved, entries: $0.entries, bytesTotal: $0.bytesTotal,
                    bytesLocal: nil)
            },
            reads: MountStatus.Reads(), origin: MountStatus.OriginTraffic(), passthrough: false, problems: [problem])
    }

    // MARK: Variables

    private static let kept: Set<String> = [
        "AWS_CA_BUNDLE", "AWS_CONFIG_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "AWS_DEFAULT_PROFILE",
        "AWS_DEFAULT_REGION", "AWS_EC2_METADATA_DISABLED", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE",
        "AWS_REGION", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME", "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE", "DOCKER_CONFIG", "HF_ENDPOINT", "HF_HOME", "HF_TOKEN_PATH", "HOME",
        "MCFS_CERTS_DIR", "PATH", "REGISTRY_AUTH_FILE", "SSL_CERT_DIR", "SSL_CERT_FILE", "TMPDIR", "USER",
        "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR",
    ]

    /// Places and names, and addresses without a password: what is not known to be harmless stays away.
    static func withoutSecrets(_ environment: [String: String]) -> [String: String] {
        environment.filter { name, value in
            let isProxy = name.lowercased().hasSuffix("_proxy")
            guard isProxy || kept.contains(name) else { return false }
            let isAddress = isProxy || value.contains("://")
            return !isAddress || !value.contains("@") && !value.contains("?")
        }
    }
}

/// The records of the mounts of a cache directory: files `mounts/NAME.json`, NAME being made from the mountpoint. A daemon
/// alone writes them, and whoever unmounts where there is none; a damaged one is nobody's mount. Thread safe.
final class MountRecords: Sendable {
    private static let bytesMax = 1 << 20

    private let path: String
    /// Whether what is there stays, whatever ends.
    private let isFrozen = Lock(false)

    init(cacheDirectory: String) { path = cacheDirectory + "/mounts" }

    /// In the order of their mountpoints: a folder before what is in it.
    var all: [MountRecord] {
        guard let folder, let names = try? Self.names(in: folder) else { return [] }
        return names.compactMap { read($0, in: folder) }.sorted { $0.request.mountpoint < $1.request.mountpoint }
    }

    func record(of mountpoint: String) -> MountRecord? {
        folder.flatMap { read(Self.name(of: mountpoint), in: $0) }
    }

    func keep(_ record: MountRecord) throws(MCFSError) {
        mkdir(path, 0o700)
        let name = Self.name(of: record.request.mountpoint)
        let bytes = try JSON.line(record)
        do throws(Errno) {
            guard let folder else { throw .noEntry }
            // Nobody reads a half: the name comes last.
            let temporary = name + ".new"
            unlinkat(folder.rawValue, temporary, 0)
            let file = try OwnedDescriptor.open(temporary, at: folder, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW)
            try bytes.withBytes { (bytes) throws(Errno) in try file.write(bytes, at: 0) }
            _ = try retryingOnInterrupt { renameat(folder.rawValue, temporary, folder.rawValue, name) }
        } catch {
            throw MCFSError(localIO: "record the mount at \(record.request.mountpoint)", error)
        }
    }

    /// - Returns: whether there was one.
    @discardableResult
    func forget(_ mountpoint: String) -> Bool {
        guard let folder else { return false }
        return isFrozen.withLock { isFrozen in
            !isFrozen && unlinkat(folder.rawValue, Self.name(of: mountpoint), 0) == 0
        }
    }

    /// Mounts that end from now on are not forgotten.
    func freeze() { isFrozen.withLock { $0 = true } }

    /// nil where it is missing, or a link to somebody else's.
    private var folder: OwnedDescriptor? {
        try? OwnedDescriptor.open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
    }

    private func read(_ name: String, in folder: OwnedDescriptor) -> MountRecord? {
        do {
            let file = try OwnedDescriptor.open(name, at: folder, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
            let size = try file.status().st_size
            guard size > 0, size <= Self.bytesMax else { return nil }
            var bytes = [UInt8](repeating: 0, count: Int(size))
            let count = try bytes.withUnsafeMutableBytes { (buffer) throws(Errno) in try file.read(into: buffer, at: 0)
            }
            let record = try JSON.decode(MountRecord.self, Array(bytes.prefix(count)))
            return Self.name(of: record.request.mountpoint) == name ? record : nil
        } catch {
            return nil
        }
    }

    private static func names(in folder: OwnedDescriptor) throws(Errno) -> [String] {
        let descriptor = try OwnedDescriptor.open(".", at: folder, O_RDONLY | O_DIRECTORY)
        let copy = dup(descriptor.rawValue)
        guard copy >= 0, let stream = fdopendir(copy) else { throw .current }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name.hasSuffix(suffix) { names.append(name) }
        }
        return names
    }

    private static let suffix = ".json"

    private static func name(of mountpoint: String) -> String { Digest.sha256(of: mountpoint.utf8).hex + suffix }
}
