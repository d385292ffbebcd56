internal import ControlAPI
internal import Glibc
package import Logging
package import MCFSCore

/// What the daemon and the commands run with: flags, then `MCFS_*` variables, then the user's and the host's
/// configuration file, then defaults. docs/configuration.md lists the keys.
package struct Configuration: Sendable {
    /// A setting's name in a configuration file.
    package enum Key: String, Sendable, CaseIterable {
        case cacheDir, cacheSize, certsDir, chunkSize, fetchThreads, gpu, idleTimeout, inFlightSize, logLevel,
            passthrough, readDeadline

        /// The environment variable that sets it.
        package var variable: String {
            switch self {
            case .cacheDir: "MCFS_CACHE_DIR"
            case .cacheSize: "MCFS_CACHE_SIZE"
            case .certsDir: "MCFS_CERTS_DIR"
            case .chunkSize: "MCFS_CHUNK_SIZE"
            case .fetchThreads: "MCFS_FETCH_THREADS"
            case .gpu: "MCFS_GPU"
            case .idleTimeout: "MCFS_IDLE_SECONDS"
            case .inFlightSize: "MCFS_IN_FLIGHT_SIZE"
            case .logLevel: "MCFS_LOG_LEVEL"
            case .passthrough: "MCFS_PASSTHROUGH"
            case .readDeadline: "MCFS_READ_DEADLINE"
            }
        }
    }

    /// A setting as text and where it stands, for messages.
    package struct Setting: Sendable, Equatable {
        package var text: String
        package var place: String

        package init(_ text: String, place: String) {
            self.text = text
            self.place = place
        }
    }

    /// Absolute.
    package var cacheDirectory: String
    /// Bytes.
    package var cacheBytesMax: UInt64 = 50 << 30
    /// Folder of `HOST/hosts.toml` files; nil: the registry client's own default.
    package var certificatesDirectory: String?
    /// Bytes.
    package var chunkSizeBytes: UInt64 = 1 << 20
    package var fetchThreads = 16
    /// What mounts are judged by that say `--gpu auto`: `auto`, the GPUs of the host, `none`, or what `--gpu` takes.
    package var gpu = ["auto"]
    /// How long the daemon waits for work before it ends.
    package var idleTimeout = Duration.seconds(10)
    /// What the search for GPUs depends on: the variables of the process.
    package var environment = Environment([:])
    /// Bytes.
    package var inFlightBytesMax: UInt64 = 128 << 20
    package var logLevel = Logger.Level.info
    /// Whether the kernel may read complete files from the cache by itself, where it can.
    package var passthrough = true
    package var readDeadline = Duration.seconds(60)

    /// Reads the files that exist and puts the settings together.
    ///
    /// - Parameter flags: what the command line sets; wins over everything.
    /// - Throws: `configuration` for a key that is not known or a value that cannot be used, naming where it stands.
    package static func load(
        flags: [Key: Setting], environment: Environment, isRoot: Bool = geteuid() == 0,
        workingDirectory: String = currentDirectory()
    ) throws(MCFSError) -> Configuration {
        var settings: [Key: Setting] = [:]
        for path in files(environment: environment).reversed() {
            settings.merge(try ConfigurationFile.read(path)) { $1 }
        }
        for key in Key.allCases {
            if let value = environment[key.variable] {
                settings[key] = Setting(value, place: "the variable \(key.variable)")
            }
        }
        settings.merge(flags) { $1 }
        var configuration = try Configuration(
            settings, defaultDirectory: defaultCacheDirectory(environment: environment, isRoot: isRoot),
            workingDirectory: workingDirectory)
        configuration.environment = environment
        return configuration
    }

    /// The files that may hold settings, the strongest first.
    package static func files(environment: Environment) -> [String] {
        [
            (environment["XDG_CONFIG_HOME"] ?? environment.home + "/.config") + "/mcfs/config.yaml",
            "/etc/mcfs/config.yaml",
        ]
    }

    static func defaultCacheDirectory(environment: Environment, isRoot: Bool) -> String {
        if isRoot { return "/var/cache/mcfs" }
        return (environment["XDG_CACHE_HOME"] ?? environment.home + "/.cache") + "/mcfs"
    }

    /// The working directory of this process; `/` where it is gone.
    package static func currentDirectory() -> String {
        guard let path = getcwd(nil, 0) else { return "/" }
        defer { free(path) }
        return String(cString: path)
    }

    init(_ settings: [Key: Setting], defaultDirectory: String, workingDirectory: String) throws(MCFSError) {
        cacheDirectory = UserPath.canonical(
            settings[.cacheDir]?.text ?? defaultDirectory, relativeTo: workingDirectory)
        for key in Key.allCases {
            guard let setting = settings[key] else { continue }
            switch key {
            case .cacheDir: break
            case .cacheSize: cacheBytesMax = try setting.bytes(1 << 20...1 << 60)
            case .certsDir: certificatesDirectory = UserPath.lexical(setting.text, relativeTo: workingDirectory)
            case .chunkSize:
                chunkSizeBytes = try setting.bytes(4096...64 << 20)
                guard chunkSizeBytes & (chunkSizeBytes - 1) == 0 else { throw setting.refused("a power of two") }
            case .fetchThreads: fetchThreads = try setting.count(1...256)
            case .gpu:
                gpu = setting.text.split(separator: ",").map { $0.filter { $0 != " " } }
                do { _ = try GPUChoice(gpu, configured: []) } catch {
                    throw setting.refused("auto, none, or GPUs such as sm_90, gfx942 or H100")
                }
            case .idleTimeout: idleTimeout = try setting.seconds(0...86400 * 365)
            case .inFlightSize: inFlightBytesMax = try setting.bytes(1 << 20...1 << 40)
            case .logLevel:
                guard let level = Logger.Level(rawValue: setting.text) else {
                    throw setting.refused(Logger.Level.allCases.map(\.rawValue).joined(separator: ", "))
                }
                logLevel = level
            case .passthrough: passthrough = try setting.truth()
            case .readDeadline: readDeadline = try setting.seconds(0.1...86400)
            }
        }
    }
}

extension Configuration.Setting {
    func refused(_ wanted: String) -> MCFSError {
        MCFSError(.configuration, "'\(text)' in \(place) cannot be used; give \(wanted)")
    }

    func bytes(_ range: ClosedRange<UInt64>) throws(MCFSError) -> UInt64 {
        guard let bytes = ByteSize.parse(text), range.contains(bytes) else {
            throw refused(
                "a size from \(ByteSize.text(range.lowerBound)) to \(ByteSize.text(range.upperBound)), such as 50GiB")
        }
        return bytes
    }

    func count(_ range: ClosedRange<Int>) throws(MCFSError) -> Int {
        guard let count = Int(text), range.contains(count) else {
            throw refused("a number from \(range.lowerBound) to \(range.upperBound)")
        }
        return count
    }

    func truth() throws(MCFSError) -> Bool {
        guard let value = Bool(text) else { throw refused("true or false") }
        return value
    }

    func seconds(_ range: ClosedRange<Double>) throws(MCFSError) -> Duration {
        guard let seconds = Double(text), range.contains(seconds) else {
            throw refused("seconds from \(range.lowerBound) to \(range.upperBound)")
        }
        return .milliseconds(Int64(seconds * 1000))
    }
}
