package import ControlAPI
internal import Glibc
internal import Logging
internal import MCFSCore
internal import Synchronization

/// What was mounted when the last daemon of the directory ended is mounted again.
extension MountService {
    private static let restoringThreads = 4

    /// As `status` shows a mount of which there is only the record.
    func deadStatus(_ record: MountRecord) -> MountStatus {
        let place = record.request.mountpoint
        if mounts.isReserved(place) { return record.status("it is being mounted again") }
        if let hindrance = record.hindrance { return record.status(hindrance) }
        let failure = restoreFailures.withLock { $0[place] }
        return record.status(
            (failure ?? "its daemon ended")
                + "; 'mcfs mount --all' mounts it again, 'mcfs umount \(place)' gives it up")
    }

    /// Begins to mount again what was mounted, but for what has kept a daemon from living. Returns at once.
    ///
    /// A daemon that ends over one of them comes back to it last, and to one at a time: so the one that ends it is known.
    func beginRestoring() {
        let records = self.records.all.filter { $0.hindrance == nil }
        // A folder comes before what is in it.
        let isNested = zip(records, records.dropFirst()).contains {
            $1.request.mountpoint.hasPrefix($0.request.mountpoint + "/")
        }
        let isCareful = isNested || records.contains { !$0.attempts.isEmpty }
        let waiting = Guarded(
            records.sorted {
                ($0.attempts.count, $0.request.mountpoint) < ($1.attempts.count, $1.request.mountpoint)
            })
        for record in self.records.all {
            if let hindrance = record.hindrance {
                logger.error(
                    "a mount is not made again",
                    metadata: ["mountpoint": "\(record.request.mountpoint)", "reason": "\(hindrance)"])
            }
        }
        for _ in 0..<(isCareful ? 1 : min(Self.restoringThreads, records.count)) {
            do throws(MCFSError) {
                try WorkerThread.start { [self] in
                    while let record = waiting.withLock({ $0.isEmpty ? nil : $0.removeFirst() }) {
                        try? restore(record, caller: nil)
                    }
                }
            } catch { logger.error("nothing is mounted again", metadata: ["reason": "\(error.message)"]) }
        }
    }

    /// `mcfs mount --all`: also what failed before, and what is not tried any more. - Returns: all mounts.
    func restore(_ request: RestoreRequest, job: Job) throws(MCFSError) -> MountList {
        for record in records.all where mounts.mount(at: record.request.mountpoint) == nil {
            try job.checkCancellation()
            job.report(phase: "mounting \(record.request.mountpoint)", done: 0, total: nil)
            // Why it failed is in its status.
            if record.lacks == nil { try? restore(record, caller: request.caller) }
        }
        return MountList(mounts: status().mounts)
    }

    /// - Parameter caller: whose variables stand where the record has none.
    private func restore(_ record: MountRecord, caller: Caller?) throws(MCFSError) {
        var record = record
        var request = record.request
        let place = request.mountpoint
        let events = AsyncStream.makeStream(of: Job.Output.self, bufferingPolicy: .bufferingNewest(1))
        let job = Job(
            id: jobs.nextID(), kind: Job.restoring, target: place, endsWithCaller: false, output: events.continuation)
        jobs.add(job)
        defer {
            jobs.remove(job)
            changed()
        }
        // Another may be there, or be asked for; or this one has been given up.
        guard try mounts.reserve(place, for: job) == nil else { return }
        guard records.record(of: place) != nil else { return mounts.giveBack(place) }
        do throws(MCFSError) {
            record.attempts = Array(record.attempts.suffix(9)) + [Self.now]
            try? records.keep(record)
            request.caller.environment.merge(caller?.environment ?? [:]) { own, _ in own }
            let made = try makeReserved(request, isRestored: true, job: job) { () throws(MCFSError) in
                var references: [LoadedReference] = []
                for known in record.references {
                    references.append(
                        try loader.restore(known, caller: request.caller, offline: request.offline, job: job))
                }
                return references
            }
            restoreFailures.withLock { $0[place] = nil }
            record.attempts = []
            try? records.keep(record)
            if made.life.isOver { records.forget(place) }
            logger.notice("mounted again", metadata: ["mountpoint": "\(place)"])
        } catch {
            record.attempts = []
            try? records.keep(record)
            restoreFailures.withLock { $0[place] = "it could not be mounted again: \(error.message)" }
            logger.error(
                "a mount could not be made again", metadata: ["mountpoint": "\(place)", "reason": "\(error.message)"])
            throw error
        }
    }

    private static var now: Double {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return Double(time.tv_sec)
    }
}

/// Mounts of a cache directory that no daemon serves, for `status` where none runs.
package enum DeadMounts {
    package static func status(cacheDirectory: String) -> [MountStatus] {
        MountRecords(cacheDirectory: cacheDirectory).all.map { record in
            record.status(
                record.hindrance
                    ?? "its daemon ended; 'mcfs mount --all' mounts it again, 'mcfs umount \(record.request.mountpoint)' gives it up"
            )
        }
    }
}
