internal import ControlAPI
internal import Daemon
internal import Glibc
internal import MCFSCore

/// The daemon in this process: `mcfs daemon` and `mcfs mount --foreground`.
struct ForegroundDaemon {
    private let configuration: Configuration
    private let output: Output

    init(_ configuration: Configuration, _ output: Output) {
        self.configuration = configuration
        self.output = output
    }

    /// Mounts, prints the mount's status, and ends the process when it is gone.
    func run(_ request: MountRequest) -> Never { end { () throws(MCFSError) in try serve(request) } }

    /// Serves until a signal or idleness, and ends the process.
    ///
    /// - Parameter readyDescriptor: where to say that it is ready, or why not (`DaemonLauncher`).
    func run(readyDescriptor: CInt?) -> Never { end { () throws(MCFSError) in try serve(readyDescriptor) } }

    /// The process ends at once when `body` has: nothing waits at its end for threads that may hang.
    private func end(_ body: () throws(MCFSError) -> Void) -> Never {
        do throws(MCFSError) { try body() } catch {
            output.printError(error)
            _exit(error.code.exitCode)
        }
        _exit(0)
    }

    private func serve(_ request: MountRequest) throws(MCFSError) {
        let signals = ProcessSignals()
        let logger = StandardErrorLog.logger(level: configuration.logLevel)
        let process = try DaemonProcess(configuration, logger: logger)
        let display = ProgressDisplay(output)
        let output = output
        try process.run(
            signals: signals,
            first: (
                request,
                { event in
                    if let progress = event.progress { display.show(progress) }
                    if let warning = event.warning { output.warn(warning) }
                }
            ),
            onReady: { status in
                display.end()
                guard let status else { return }
                try? output.result(status, text: output.quiet ? "" : "\(status.mountpoint): mounted")
            })
    }

    private func serve(_ readyDescriptor: CInt?) throws(MCFSError) {
        let signals = ProcessSignals()
        let log = readyDescriptor == nil ? nil : LogFile(path: configuration.cacheDirectory + "/" + LogFile.name)
        do {
            let process = try DaemonProcess(
                configuration, logger: StandardErrorLog.logger(level: configuration.logLevel, file: log),
                isService: readyDescriptor == nil)
            try process.run(signals: signals) { _ in Self.say(Array(DaemonLauncher.readyLine.utf8), to: readyDescriptor)
            }
        } catch {
            Self.say((try? JSON.line(ErrorDocument(error))) ?? [], to: readyDescriptor)
            throw error
        }
    }

    private static func say(_ bytes: [UInt8], to descriptor: CInt?) {
        guard let descriptor else { return }
        _ = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
        close(descriptor)
    }
}
