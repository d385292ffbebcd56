internal import CCurl
internal import MCFSCore
internal import Synchronization

/// One thread that owns one curl multi handle and all transfers on it.
///
/// Other threads put transfers into the inbox and wake the loop; nothing else is shared. With nothing to do the thread
/// sleeps in `poll`.
final class HTTPLoop: Sendable {
    private struct Inbox {
        var added: [HTTPTransfer] = []
        var abandoned: [HTTPTransfer] = []
        /// Whose sinks were full and take more.
        var drained: [HTTPTransfer] = []
        var isStopping = false
    }

    /// Idle connections kept, and handles kept for reuse: more than the readers that there are at once.
    private static let connectionsKeptMax = 64

    // Only `curl_multi_wakeup`, which any thread may call, is used outside of the loop's thread, and under the
    // inbox's lock, after which the loop can still see it.
    private nonisolated(unsafe) let multi: UnsafeMutableRawPointer
    private let inbox = Lock(Inbox())
    private let loadCount = Atomic<Int>(0)

    /// nil where there is no memory for it.
    init?() {
        guard let multi = curl_multi_init() else { return nil }
        self.multi = multi
        mcfs_multi_setopt_long(multi, CURLMOPT_PIPELINING, Int(CURLPIPE_NOTHING))
        mcfs_multi_setopt_long(multi, CURLMOPT_MAXCONNECTS, Self.connectionsKeptMax)
    }

    deinit { curl_multi_cleanup(multi) }

    /// Transfers that were submitted and are not over.
    var load: Int { loadCount.load(ordering: .relaxed) }

    func submit(_ transfer: HTTPTransfer) {
        let isTaken = inbox.withLock { inbox in
            if inbox.isStopping { return false }
            inbox.added.append(transfer)
            loadCount.add(1, ordering: .relaxed)
            curl_multi_wakeup(multi)
            return true
        }
        if !isTaken { transfer.finish(.failure(Self.cancelled)) }
    }

    /// Ends a transfer that nobody waits for.
    func abandon(_ transfer: HTTPTransfer) {
        inbox.withLock { inbox in
            inbox.abandoned.append(transfer)
            curl_multi_wakeup(multi)
        }
    }

    /// Goes on with a transfer whose sink was full.
    private func resume(_ transfer: HTTPTransfer) {
        inbox.withLock { inbox in
            if inbox.isStopping { return }
            inbox.drained.append(transfer)
            curl_multi_wakeup(multi)
        }
    }

    /// Makes `run` return; transfers end with `cancelled`.
    func stop() {
        inbox.withLock { inbox in
            inbox.isStopping = true
            curl_multi_wakeup(multi)
        }
    }

    private static let cancelled = MCFSError(.cancelled, "the HTTP client is shut down")

    /// The thread's life.
    func run() {
        var exchanges: [ObjectIdentifier: HTTPExchange] = [:]
        var idle: [UnsafeMutableRawPointer] = []
        while true {
            let work = inbox.withLock { inbox in
                let work = inbox
                inbox.added = []
                inbox.abandoned = []
                inbox.drained = []
                return work
            }
            if work.isStopping {
                for transfer in work.added { transfer.finish(.failure(Self.cancelled)) }
                break
            }
            for transfer in work.added {
                if let exchange = start(transfer, &idle) { exchanges[ObjectIdentifier(transfer)] = exchange }
            }
            for transfer in work.abandoned {
                if let exchange = exchanges.removeValue(forKey: ObjectIdentifier(transfer)) { end(exchange, &idle) }
            }
            for transfer in work.drained {
                guard let exchange = exchanges[ObjectIdentifier(transfer)], let outcome = exchange.resume() else {
                    continue
                }
                exchanges[ObjectIdentifier(transfer)] = nil
                end(exchange, &idle)
                transfer.finish(outcome)
            }
            var runningCount: CInt = 0
            curl_multi_perform(multi, &runningCount)
            while let (exchange, result) = nextFinished() {
                exchanges[ObjectIdentifier(exchange.transfer)] = nil
                let outcome = exchange.outcome(result)
                end(exchange, &idle)
                exchange.transfer.finish(outcome)
            }
            // Curl cuts the wait at its own timers (connect, stall); everything else wakes it.
            curl_multi_poll(multi, nil, 0, 600_000, nil)
        }
        for exchange in exchanges.values {
            end(exchange, &idle)
            exchange.transfer.finish(.failure(Self.cancelled))
        }
        for easy in idle { curl_easy_cleanup(easy) }
    }

    private func start(_ transfer: HTTPTransfer, _ idle: inout [UnsafeMutableRawPointer]) -> HTTPExchange? {
        guard !transfer.isAbandoned, let easy = idle.popLast() ?? curl_easy_init() else {
            loadCount.subtract(1, ordering: .relaxed)
            transfer.finish(.failure(MCFSError(.failed, "no memory for a transfer", isTransient: true)))
            return nil
        }
        // Weak: a sink may keep the closure longer than the transfer lasts, and the transfer holds the sink.
        let exchange = HTTPExchange(transfer, easy: easy) { [weak self, weak transfer] in
            if let self, let transfer { self.resume(transfer) }
        }
        do throws(MCFSError) {
            try exchange.prepare()
            guard curl_multi_add_handle(multi, easy) == CURLM_OK else {
                throw MCFSError(.failed, "no memory for a transfer", isTransient: true)
            }
            return exchange
        } catch {
            end(exchange, &idle)
            transfer.finish(.failure(error))
            return nil
        }
    }

    private func end(_ exchange: HTTPExchange, _ idle: inout [UnsafeMutableRawPointer]) {
        loadCount.subtract(1, ordering: .relaxed)
        curl_multi_remove_handle(multi, exchange.easy)
        if idle.count < Self.connectionsKeptMax {
            curl_easy_reset(exchange.easy)
            idle.append(exchange.easy)
        } else {
            curl_easy_cleanup(exchange.easy)
        }
    }

    private func nextFinished() -> (HTTPExchange, CURLcode)? {
        var queuedCount: CInt = 0
        while let message = curl_multi_info_read(multi, &queuedCount) {
            guard message.pointee.msg == CURLMSG_DONE, let easy = message.pointee.easy_handle else { continue }
            // The message is gone once its handle is removed.
            let result = message.pointee.data.result
            var pointer: UnsafeMutableRawPointer?
            mcfs_getinfo_pointer(easy, CURLINFO_PRIVATE, &pointer)
            guard let pointer else { continue }
            return (Unmanaged<HTTPExchange>.fromOpaque(pointer).takeUnretainedValue(), result)
        }
        return nil
    }
}

/// The threads of a client.
final class HTTPThreads: Sendable {
    private let count: Int
    private let running = Lock<[(loop: HTTPLoop, thread: StartedThread)]>([])

    init(count: Int) {
        self.count = count
        running.withLock { fill(&$0) }
    }

    /// The least busy; the first where none is, so that a lone caller finds its connection again. nil where there is no thread
    /// to be had, or no memory.
    var leastBusy: HTTPLoop? {
        running.withLock { running in
            if running.isEmpty { fill(&running) }
            return running.min { $0.loop.load < $1.loop.load }?.loop
        }
    }

    /// Makes what is missing, as far as the system lets it.
    private func fill(_ running: inout [(loop: HTTPLoop, thread: StartedThread)]) {
        while running.count < count {
            guard let loop = HTTPLoop(), let thread = try? startThread("mcfs-http", { loop.run() }) else { return }
            running.append((loop, thread))
        }
    }

    // Also by one of these threads: the last reference to a client may go in a callback.
    deinit {
        let running = running.withLock { running in
            defer { running = [] }
            return running
        }
        for (loop, _) in running { loop.stop() }
        for (_, thread) in running { thread.join() }
    }
}
