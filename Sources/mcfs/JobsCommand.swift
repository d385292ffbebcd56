internal import ArgumentParser
internal import ControlAPI
internal import MCFSCore

struct JobsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "jobs", abstract: "Show the work that the daemon does, wait for it, or end it.",
        discussion: """
            Prefetches, also those of mounts, mounts that are being made, verifications and the like. What a prefetch that
            is ended made local stays.
            """)

    @OptionGroup var common: CommonOptions

    @Option(help: ArgumentHelp("Wait until this one has ended; fails as it does.", valueName: "id"))
    var wait: Int?

    @Option(help: ArgumentHelp("End this one.", valueName: "id"))
    var cancel: Int?

    func validate() throws {
        if wait != nil, cancel != nil { throw ValidationError("--wait and --cancel exclude each other.") }
    }

    func run() throws {
        let session = Session(try common.configuration(), common.output)
        if let number = wait ?? cancel {
            let request = JobRequest(id: number)
            let status: JobStatus = try session.call(
                wait == nil ? "DELETE" : "POST", wait == nil ? "/v1/jobs" : "/v1/jobs/wait", request,
                startsDaemon: false)
            return try common.output.result(
                status, text: "\(status.kind) \(status.target): \(wait == nil ? "is being ended" : "done")")
        }
        let jobs = try session.runningClient?.jobs() ?? JobDocument(jobs: [])
        try common.output.result(jobs, text: Self.text(jobs.jobs))
    }

    static func text(_ jobs: [JobStatus]) -> String {
        if jobs.isEmpty { return "nothing is being done" }
        var table = Table([.right, .left, .left, .left, .left])
        for job in jobs {
            table.add(
                "\(job.id)", job.kind, job.target, "for \(ProgressDisplay.duration(job.seconds))",
                ProgressDisplay.text(job.progress, base: 0, seconds: 0))
        }
        return table.text
    }
}
