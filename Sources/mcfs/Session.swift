internal import ControlAPI
internal import Daemon
internal import MCFSCore

/// A command's way to the daemon of its cache directory.
struct Session {
    let configuration: Configuration
    let output: Output
    private let launcher: DaemonLauncher

    init(_ configuration: Configuration, _ output: Output) {
        self.configuration = configuration
        self.output = output
        launcher = DaemonLauncher(configuration)
    }

    /// nil where no daemon runs.
    var runningClient: ControlClient? {
        get throws(MCFSError) { try launcher.runningClient() }
    }

    /// Sends a request, starting the daemon where it does not run; progress and warnings go to standard error.
    ///
    /// - Parameter settings: command-line settings of the daemon; a daemon that runs already keeps its own.
    func call<Request: Encodable, Result: Codable & Sendable>(
        _ method: String, _ path: String, _ request: Request, returning: Result.Type = Result.self,
        startsDaemon: Bool = true, settings: [String] = [],
        onEvent: @escaping @Sendable (Event<Result>) -> Void = { _ in }
    ) throws(MCFSError) -> Result {
        let display = ProgressDisplay(output)
        defer { display.end() }
        if !startsDaemon, try runningClient == nil {
            throw MCFSError(
                .notFound, "no daemon runs for the cache directory \(configuration.cacheDirectory), so it has no mounts"
            )
        }
        // A daemon may end between the look and the request: then a new one is asked, once.
        for isLastTry in [false, true] {
            if startsDaemon, try !launcher.ensureRunning(), !settings.isEmpty {
                output.warn(
                    "the daemon of \(configuration.cacheDirectory) runs already and keeps its settings; \(settings.joined(separator: ", ")) had no effect"
                )
            }
            do {
                return try ControlClient(cacheDirectory: configuration.cacheDirectory).call(method, path, request) {
                    (event: Event<Result>) in
                    if let progress = event.progress { display.show(progress) }
                    if let warning = event.warning {
                        display.end()
                        output.warn(warning)
                    }
                    onEvent(event)
                }
            } catch {
                if isLastTry || !error.isTransient || !startsDaemon { throw error }
            }
        }
        throw MCFSError(.failed, "the daemon of \(configuration.cacheDirectory) does not answer")
    }
}
