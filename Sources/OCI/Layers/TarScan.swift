internal import MCFSCore

/// Walks the members of an uncompressed tar by ranges, through a window that slides over the source.
///
/// Where headers are close together the window doubles with each read and everything is read; where a member's data go
/// far beyond it, the next read starts behind them and the window is small again. Each such hop makes the next one a
/// little less likely, so that thousands of middle-sized files do not cost a round trip each.
struct TarScan {
    struct Limits {
        /// Bytes of the first read and of the one after a hop.
        var windowBytesMin = 64 << 10
        /// Bytes of one read at most, unless a member that is read through is larger.
        var windowBytesMax = 4 << 20
        /// A hop has to save more than this many bytes …
        var hopBytesMin = 256 << 10
        /// … and this many more for each hop that was made …
        var hopBytesStep = 16 << 10
        /// … but never more than this.
        var hopBytesMax = 4 << 20

        /// Once reads that follow a hop took so much time, the limits are the usual ones; nil: never.
        var hopTimeMax: Duration?

        /// For layers most of which nobody will read: fewer bytes at the price of more round trips, while these are short.
        static let sparse = Limits(
            windowBytesMin: 8 << 10, windowBytesMax: 1 << 20, hopBytesMin: 128 << 10, hopBytesStep: 1 << 10,
            hopBytesMax: 4 << 20, hopTimeMax: .seconds(1))

        /// Nothing but headers: for sources where a read costs no round trip.
        static let headersOnly = Limits(
            windowBytesMin: 4096, windowBytesMax: 4096, hopBytesMin: 0, hopBytesStep: 0, hopBytesMax: 0)
    }

    private let source: any ByteSource
    private let size: UInt64
    private let deadline: Deadline
    private var limits: Limits
    private var hopTime = Duration.zero
    private var parser: TarParser
    private var window: [UInt8]
    private var windowStart: UInt64 = 0
    private var windowBytes: Int
    private var hops = 0
    /// Sees all bytes as they come; nil where some were passed over, or where nobody wants to know.
    private var check: DigestCheck?
    private var isSparse = false

    /// - Parameters:
    ///   - name: what messages call the tar.
    ///   - first: the bytes that the source begins with, as far as they were read already.
    ///   - check: of all bytes of the source; see `verify`.
    init(
        _ source: any ByteSource, size: UInt64, name: String, deadline: Deadline, first: [UInt8] = [],
        check: DigestCheck? = nil, limits: Limits? = nil
    ) {
        self.source = source
        self.size = size
        self.deadline = deadline
        self.limits = limits ?? (source.isLocal ? .headersOnly : Limits())
        parser = TarParser(name: name, size: size)
        window = first
        self.check = check
        self.check?.update(first)
        windowBytes = self.limits.windowBytesMin
    }

    /// Says that most of what is left will never be read on this host.
    mutating func becomeSparse() {
        guard !isSparse, !source.isLocal else { return }
        isSparse = true
        limits = .sparse
        windowBytes = limits.windowBytesMin
    }

    /// How far the walk is, in bytes.
    var offset: UInt64 { parser.offset }

    /// The next member; nil at the end of the tar.
    mutating func next() throws(MCFSError) -> TarMember? {
        let block = UInt64(TarHeader.byteCount)
        while !parser.hasEnded {
            let offset = parser.offset
            guard offset < size, size - offset >= block else {
                try parser.finish(at: size)
                return nil
            }
            if !holds(ByteRange(offset: offset, count: block)) {
                let isNear = offset < windowEnd || offset - windowEnd <= hopBytes
                try load(ByteRange(offset: offset, count: block), isContiguous: isNear)
            }
            let start = Int(offset - windowStart)
            if case .member(let member) = try parser.take(Array(window[start..<start + TarHeader.byteCount])) {
                return member
            }
        }
        return nil
    }

    /// The data of the member that `next` returned last, where they are at hand or not worth a hop; nil where the walk
    /// goes past them.
    mutating func data(of member: TarMember) throws(MCFSError) -> ArraySlice<UInt8>? {
        let range = ByteRange(offset: member.offset, count: member.size)
        if !holds(range) {
            let end = range.upperBound
            // The window always holds the member's header, so its data begin in it or right behind it.
            guard range.lowerBound <= windowEnd, end - windowEnd <= hopBytes,
                member.size <= UInt64(limits.windowBytesMax)
            else {
                hops += 1
                return nil
            }
            try load(range, isContiguous: true)
        }
        let start = Int(range.lowerBound - windowStart)
        return window[start..<start + Int(range.count)]
    }

    /// Reads what follows the tar's end, where it is little, and checks the digest of the source, where no byte of it was passed
    /// over.
    ///
    /// - Throws: `corrupt` where the bytes are not those that the digest stands for.
    mutating func verify() throws(MCFSError) {
        guard let seen = check?.count, size - seen <= Self.trailingBytesMax else { return }
        let rest = seen < size ? try source.bytes(ByteRange(seen, size), deadline: deadline) : []
        check?.update(rest)
        try check?.verify()
    }

    /// Bytes behind the end of a tar that are read for the digest alone. Writers pad to 10 KiB.
    private static let trailingBytesMax: UInt64 = 1 << 20

    private var windowEnd: UInt64 { windowStart + UInt64(window.count) }

    private var hopBytes: UInt64 {
        let (more, overflow) = hops.multipliedReportingOverflow(by: limits.hopBytesStep)
        return UInt64(
            overflow ? limits.hopBytesMax : min(limits.hopBytesMax, limits.hopBytesMin + min(more, limits.hopBytesMax)))
    }

    private func holds(_ range: ByteRange) -> Bool {
        windowStart <= range.lowerBound && range.upperBound <= windowEnd
    }

    /// Makes the window begin with `range` and go on behind it; bytes of it that are there already are kept.
    private mutating func load(_ range: ByteRange, isContiguous: Bool) throws(MCFSError) {
        windowBytes =
            isContiguous && !window.isEmpty ? min(windowBytes * 2, limits.windowBytesMax) : limits.windowBytesMin
        let isInside = range.lowerBound >= windowStart && range.lowerBound < windowEnd
        let kept = isInside ? window[Int(range.lowerBound - windowStart)...] : []
        // While all bytes pass, the padding between two members does, too.
        let start = isInside || isContiguous && check != nil ? min(windowEnd, size) : range.lowerBound
        let end = min(size, max(range.upperBound, start + UInt64(windowBytes)))
        let began = ContinuousClock.now
        let fresh = try source.bytes(ByteRange(start, max(start, end)), deadline: deadline)
        if !isContiguous, let longest = limits.hopTimeMax {
            hopTime += ContinuousClock.now - began
            if hopTime > longest { limits = Limits() }
        }
        if check?.count == start { check?.update(fresh) } else { check = nil }
        window = isInside ? Array(kept) + fresh : Array(fresh[Int(range.lowerBound - start)...])
        windowStart = range.lowerBound
    }
}
