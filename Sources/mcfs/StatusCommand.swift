internal import ArgumentParser
internal import ControlAPI
internal import Daemon
internal import MCFSCore

struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status", abstract: "Show the cache, the mounts, and what is wrong.",
        discussion: "Ends with 1 where a mount is dead: its daemon ended, and nobody serves it.")

    @OptionGroup var common: CommonOptions

    @Argument(help: "Only this mount.")
    var mountpoint: String?

    func run() throws {
        let configuration = try common.configuration()
        var status = try Self.status(Session(configuration, common.output))
        if let mountpoint {
            let path = UserPath.canonical(mountpoint, relativeTo: Configuration.currentDirectory())
            status.mounts.removeAll { $0.mountpoint != path }
            if status.mounts.isEmpty {
                throw MCFSError(
                    .notFound, "nothing is mounted at \(path) by the daemon of \(configuration.cacheDirectory)")
            }
        }
        try common.output.result(status, text: StatusText.text(status))
        if status.mounts.contains(where: { $0.state == .dead }) { throw ExitCode(1) }
    }

    /// Starts no daemon: without one what was mounted is dead, and how much the directory holds is measured.
    private static func status(_ session: Session) throws(MCFSError) -> Status {
        // A daemon may end, or its socket be opened anew, between the look and the request.
        for isLastTry in [false, true] {
            guard let client = try session.runningClient else { break }
            do { return try client.status() } catch {
                if isLastTry || !error.isTransient { throw error }
            }
        }
        let directory = session.configuration.cacheDirectory
        let cache = CacheStatus(
            directory: directory, bytesUsed: DirectoryUsage.bytes(directory),
            bytesMax: session.configuration.cacheBytesMax)
        return Status(
            cache: cache, mounts: DeadMounts.status(cacheDirectory: directory), jobs: [], version: mcfsVersion)
    }
}

/// `mcfs status` for people.
enum StatusText {
    static func text(_ status: Status) -> String {
        let cache = status.cache
        var lines = [
            "cache  \(cache.directory)  " + used(cache)
        ]
        if let unverifiable = cache.unverifiable, unverifiable.files > 0 {
            lines.append("  \(UnverifiableText.files(unverifiable)) in it have no digest and cannot be checked")
        }
        lines += cache.problems.map { "  problem  \($0)" }
        for mount in status.mounts { lines += text(mount) }
        for job in status.jobs {
            lines.append(
                "job \(job.id)  \(job.kind)  \(job.target)  " + ProgressDisplay.text(job.progress, base: 0, seconds: 0))
        }
        if status.mounts.isEmpty { lines.append("nothing is mounted") }
        return lines.joined(separator: "\n")
    }

    private static func used(_ cache: CacheStatus) -> String {
        let most = ByteSize.text(cache.bytesMax)
        guard let used = cache.bytesUsed else { return "what is used of \(most) is still being counted" }
        let pinned = cache.bytesPinned ?? 0
        return "\(ByteSize.text(used)) of \(most) used" + (pinned > 0 ? ", \(ByteSize.text(pinned)) pinned" : "")
    }

    private static func local(_ reference: MountStatus.Reference) -> String {
        guard let local = reference.bytesLocal else { return "what is local is still being counted" }
        let total = reference.bytesTotal
        let percent = total == 0 ? 100 : Int(Double(local) / Double(total) * 100)
        var text = "\(ByteSize.text(local)) local (\(percent)%)"
        if let unverifiable = reference.unverifiable, unverifiable.files > 0 {
            text += ", of which \(UnverifiableText.files(unverifiable)) cannot be checked"
        }
        return text
    }

    static func view(_ view: MountStatus.View) -> String {
        var text = "\(view.kernels) for \(view.gpu.isEmpty ? "any GPU" : view.gpu.joined(separator: ", "))"
        text += ", \(view.hiddenEntries) hidden"
        if view.undecided > 0 { text += ", \(view.undecided) not judged yet" }
        return text + ", \(view.kernelHits) hits, \(view.kernelMisses) misses"
    }

    /// Most waiting reads of a mount that are shown.
    private static let waitingMax = 5

    private static func text(_ mount: MountStatus) -> [String] {
        var lines = ["", "\(mount.mountpoint)  \(mount.state.rawValue)\(mount.readOnly ? ", read-only" : "")"]
        for reference in mount.references {
            lines.append("  \(reference.reference)")
            if reference.resolved != reference.reference { lines.append("    is \(reference.resolved)") }
            lines.append(
                "    \(count(reference.entries, "entry", plural: "entries")), \(ByteSize.text(reference.bytesTotal)), \(local(reference))"
            )
        }
        if let processes = mount.heldBy {
            let numbers = processes.map { "\($0)" }.joined(separator: ", ")
            lines.append("  unmounted here, " + (processes.isEmpty ? "still open" : "still held by process \(numbers)"))
        }
        if mount.state == .dead { return lines + mount.problems.map { "  problem  \($0)" } }
        if let upper = mount.upper {
            lines.append("  upper   \(upper)" + (mount.upperBytes.map { ", \(ByteSize.text($0))" } ?? ""))
        }
        if mount.view.kernels > 0 || mount.view.kernelMisses > 0 {
            lines.append("  kernels " + " " + StatusText.view(mount.view))
            for missed in mount.view.missed.prefix(3) { lines.append("    not there: \(missed.path)") }
        }
        let reads = mount.reads
        let answered = reads.hits + reads.misses
        let rate = answered == 0 ? "" : ", \(Int(Double(reads.hits) / Double(answered) * 100))% of them local"
        lines.append(
            "  reads   \(reads.count), \(ByteSize.text(reads.bytes))\(rate)\(reads.errors > 0 ? ", \(reads.errors) failed" : "")"
        )
        let origin = mount.origin
        lines.append(
            "  origin  \(origin.requests) requests, \(ByteSize.text(origin.bytes))\(origin.errors > 0 ? ", \(origin.errors) failed" : "")"
        )
        lines += mount.problems.map { "  problem  \($0)" }
        for read in mount.waiting.prefix(Self.waitingMax) {
            let who = read.pid.map { ", process \($0)" } ?? ""
            lines.append("  waiting  \(read.path)  for \(ProgressDisplay.duration(read.seconds))\(who)")
        }
        if mount.waiting.count > Self.waitingMax {
            lines.append("  waiting  \(mount.waiting.count - Self.waitingMax) more reads")
        }
        return lines
    }
}
