internal import CFUSE
internal import Glibc
internal import Logging
internal import MCFSCore
internal import Synchronization

/// The threads that take a mount's requests from the kernel and answer them.
///
/// Where several threads wait for requests, the kernel wakes another one for each: a program that opens one file after the
/// other then costs two switches of threads for each file, on processors whose caches know nothing of it. So only as
/// many have a place to wait at as are needed: one, if requests come one after the other. A sleeping one is called
///
/// - by a thread that is about to do what may wait for the disk, which gives up its place (`mayBlock`),
/// - where requests pile up (`RequestPace`),
/// - where none waits for requests and none comes back: what should not have waited does (`look`, from the `Lookout`).
///
/// A thread is made where none sleeps, up to a bound; where the system gives none, those that are there do the work.
///
/// Half of them at most are at changes, which may wait for the disk for as long as it likes: further ones are handed over,
/// so that what needs no disk is answered whatever the disk does.
// @unchecked: libfuse lets several threads take and answer requests of one session.
final class ServingThreads: @unchecked Sendable {
    private struct State {
        /// Threads that have a place: they wait for a request, or answer one and will wait for the next.
        var places = 0
        /// Threads that sleep, and how many of them were called to a place and have not woken up.
        var sleeping = 0
        var called = 0
        var threads = 0
        /// Requests that other threads answer.
        var handedOver = 0
        /// Set with the first place: who ends last from then on says so.
        var isServing = false
        var hasEnded = false

        var isOver: Bool { hasEnded && isServing && threads == 0 && handedOver == 0 }
    }

    /// A thread that gave up its place takes one again up to so many: the next that gives up its place need not call.
    private static let placesKept = 2

    private let session: OpaquePointer
    private let threadsMax: Int
    private let direct: DirectAnswers
    private let changing: WaitingThreads
    private let lookout: Lookout
    private let logger: Logger
    private let onEnd: @Sendable () -> Void
    private let state = Guarded(State())
    /// Threads that wait for a request now.
    private let waiting = Atomic<Int>(0)
    /// Threads that are at a change.
    private let changes = Atomic<Int>(0)
    private let requests = Atomic<UInt64>(0)
    private let requestsSeen = Atomic<UInt64>(0)
    private let hasLackedThread = Atomic<Bool>(false)

    /// The threads that the calling thread has a place of.
    private static let placeKey: pthread_key_t = {
        var key = pthread_key_t()
        let result = pthread_key_create(&key, nil)
        precondition(result == 0, "a process has room for one more thread-specific key")
        return key
    }()

    /// `onEnd` is called by the last thread, once the kernel has ended the mount's connection.
    ///
    /// - Parameter changing: answers what may wait for the disk, where half of the threads here do that.
    init(
        _ session: OpaquePointer, threadsMax: Int, direct: DirectAnswers, changing: WaitingThreads, lookout: Lookout,
        logger: Logger,
        onEnd: @escaping @Sendable () -> Void
    ) {
        self.session = session
        self.threadsMax = max(2, threadsMax)
        self.direct = direct
        self.changing = changing
        self.lookout = lookout
        self.logger = logger
        self.onEnd = onEnd
    }

    /// Begins to serve. Where this throws, `onEnd` is not called.
    func start() throws(Errno) {
        // There is always one to call.
        state.withLock { $0.threads += 1 }
        let spare: StartedThread
        do throws(Errno) { spare = try startThread("mcfs-fuse") { [self] in work(hasPlace: false) } } catch {
            state.withLock { $0.threads -= 1 }
            throw error
        }
        state.withLock { state in
            state.threads += 1
            state.places += 1
            state.isServing = true
        }
        do throws(Errno) { try startThread("mcfs-fuse") { [self] in work(hasPlace: true) } } catch {
            state.update { state in
                state.threads -= 1
                state.isServing = false
                state.hasEnded = true
            }
            spare.join()
            throw error
        }
    }

    /// Lets another thread take requests, if the calling one does that, until it is done with the one that it has.
    static func mayBlock() {
        guard let place = pthread_getspecific(placeKey) else { return }
        pthread_setspecific(placeKey, nil)
        Unmanaged<ServingThreads>.fromOpaque(place).takeUnretainedValue().giveUpPlace()
    }

    private func giveUpPlace() {
        call { state in
            state.places -= 1
            return state.places == 0
        }
    }

    /// Calls or makes a thread if `isNeeded`, which is asked under the lock.
    private func call(isNeeded: (inout State) -> Bool) {
        enum Way { case none, wakes, makes }
        let way = state.withLock { state -> Way in
            guard isNeeded(&state), !state.hasEnded else { return .none }
            if state.called < state.sleeping {
                state.called += 1
                state.places += 1
                return .wakes
            }
            guard state.threads < threadsMax else { return .none }
            state.threads += 1
            state.places += 1
            return .makes
        }
        switch way {
        case .none: break
        case .wakes: state.wakeOne()
        case .makes: make()
        }
    }

    private func make() {
        do throws(Errno) { try startThread("mcfs-fuse") { [self] in work(hasPlace: true) } } catch {
            state.withLock { state in
                state.threads -= 1
                state.places -= 1
            }
            guard !hasLackedThread.exchange(true, ordering: .relaxed) else { return }
            logger.warning("fewer threads serve the mount than it needs", metadata: ["errno": "\(error)"])
        }
    }

    /// Where every thread that has a place is busy, and was when this was called last, another one takes requests.
    /// - Returns: whether there is something to look at.
    func look() -> Bool {
        let count = requests.load(ordering: .sequentiallyConsistent)
        let isQuiet = requestsSeen.exchange(count, ordering: .relaxed) == count
        if waiting.load(ordering: .sequentiallyConsistent) > 0 { return !isQuiet }
        if isQuiet { call { _ in true } }
        return true
    }

    // MARK: A thread's life

    private func work(hasPlace: Bool) {
        var buffer = fuse_buf()
        defer { free(buffer.mem) }
        var hasPlace = hasPlace
        var pace = RequestPace()
        while hasPlace || waitForCall() {
            guard let wait = take(&buffer) else { break }
            requests.add(1, ordering: .sequentiallyConsistent)
            lookout.wake()
            let request = UnsafeRawBufferPointer(start: buffer.mem, count: buffer.size)
            guard let header = RequestHeader(request) else { continue }
            if !direct.answer(header, request) {
                let isChange = header.isChange
                if isChange, changes.add(1, ordering: .relaxed).oldValue >= threadsMax / 2 {
                    changes.subtract(1, ordering: .relaxed)
                    handOver(&buffer)
                    hasPlace = true
                    continue
                }
                pthread_setspecific(Self.placeKey, Unmanaged.passUnretained(self).toOpaque())
                fuse_session_process_buf(session, &buffer)
                if isChange { changes.subtract(1, ordering: .relaxed) }
                if pthread_getspecific(Self.placeKey) == nil {
                    pace = RequestPace()
                    hasPlace = takePlace()
                    continue
                }
            }
            hasPlace = true
            switch pace.took(header, afterNanoseconds: wait) {
            case .same: break
            case .more: call { _ in true }
            case .fewer: hasPlace = !leavesPlace()
            }
        }
        end()
    }

    /// Waits for a request. - Returns: how long; nil where the mount's connection has ended.
    private func take(_ buffer: inout fuse_buf) -> Int? {
        while true {
            waiting.add(1, ordering: .sequentiallyConsistent)
            let began = Self.now
            let result = fuse_session_receive_buf(session, &buffer)
            waiting.subtract(1, ordering: .sequentiallyConsistent)
            if result > 0 { return Self.now - began }
            if result == 0 { return nil }
            // A mount that has no memory for a request now may have it later.
            if result != -EINTR { usleep(10_000) }
        }
    }

    private static var now: Int {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return time.tv_sec * 1_000_000_000 + time.tv_nsec
    }

    /// - Returns: whether the calling thread, which gave up its place, has one again.
    private func takePlace() -> Bool {
        state.withLock { state in
            guard state.places < Self.placesKept else { return false }
            state.places += 1
            return true
        }
    }

    /// - Returns: whether others have a place, so that the calling thread has left its own.
    private func leavesPlace() -> Bool {
        state.withLock { state in
            guard state.places > 1 else { return false }
            state.places -= 1
            return true
        }
    }

    /// Sleeps until it is called. - Returns: false at the end.
    private func waitForCall() -> Bool {
        state.withLock { $0.sleeping += 1 }
        return state.wait { state -> Bool? in
            guard state.called > 0 || state.hasEnded else { return nil }
            state.sleeping -= 1
            if state.called > 0 { state.called -= 1 }
            return !state.hasEnded
        } ?? false
    }

    private func end() {
        let isLast = state.update { state in
            state.hasEnded = true
            state.threads -= 1
            return state.isOver
        }
        if isLast { onEnd() }
    }

    // MARK: Requests that others answer

    /// The request's memory goes along.
    private func handOver(_ buffer: inout fuse_buf) {
        state.withLock { $0.handedOver += 1 }
        let request = Request(buffer)
        buffer = fuse_buf()
        changing.run { [self] in
            // After the end of the mount nobody waits for it.
            if !state.withLock({ $0.hasEnded }) { request.process(in: session) }
            let isLast = state.withLock { state in
                state.handedOver -= 1
                return state.isOver
            }
            if isLast { onEnd() }
        }
    }

    // @unchecked: one thread has it.
    private final class Request: @unchecked Sendable {
        private var buffer: fuse_buf

        init(_ buffer: fuse_buf) {
            self.buffer = buffer
            // There is room for the largest request in it.
            if let memory = realloc(buffer.mem, buffer.size) { self.buffer.mem = memory }
        }

        deinit { free(buffer.mem) }

        func process(in session: OpaquePointer) { fuse_session_process_buf(session, &buffer) }
    }
}
