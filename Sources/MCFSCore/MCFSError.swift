/// The one error type that crosses module boundaries.
///
/// `message` is one sentence: what could not be done, to what, why, and what to do about it. It never holds a
/// secret: no token, no signed URL, no credential. Control characters become `?`.
package struct MCFSError: Error, Sendable {
    /// What went wrong, as far as a caller may branch on it. Each edge maps it once: errno (`FUSEServer`), exit code
    /// (`mcfs`), HTTP status (`Daemon`).
    package enum Code: String, Sendable, CaseIterable, Codable {
        /// A command line or a reference that cannot be understood.
        case usage
        /// A configuration file or variable that cannot be used.
        case configuration
        /// The thing asked for does not exist.
        case notFound
        /// A credential is missing, refused, or not sufficient.
        case unauthorized
        /// The origin cannot be reached or does not answer as it should.
        case originUnavailable
        /// The origin has other content than at mount.
        case changed
        /// Bytes that do not match their digest, or a structure that cannot be parsed.
        case corrupt
        /// The cache's disk or its bound is full.
        case noSpace
        /// A local file or directory failed.
        case localIO
        /// A mountpoint, cache directory or socket that cannot be made or taken.
        case cannotCreate
        /// Somebody else uses it now.
        case busy
        /// The deadline passed.
        case timedOut
        /// The caller gave up, or the mount ends.
        case cancelled
        /// Valid, but mcfs does not do it.
        case unsupported
        /// Anything else: a defect of ours.
        case failed
    }

    package var code: Code
    package var message: String
    package var cause: (any Error & Sendable)?
    /// Whether the same request may succeed later.
    package var isTransient: Bool
    /// How long the origin asked to wait before the next try (`Retry-After`).
    package var retryAfter: Duration?

    package init(
        _ code: Code, _ message: String, cause: (any Error & Sendable)? = nil, isTransient: Bool = false,
        retryAfter: Duration? = nil
    ) {
        self.code = code
        self.message = Self.printable(message)
        self.cause = cause
        self.isTransient = isTransient
        self.retryAfter = retryAfter
    }

    /// A failed system call on a local file. Never transient.
    package init(localIO what: String, _ errno: Errno) {
        self.init(errno == .noSpace || errno == .quota ? .noSpace : .localIO, "cannot \(what): \(errno)", cause: errno)
    }
}

extension MCFSError {
    /// A name from outside as messages show it: bounded, without control characters.
    package static func shown(_ name: some Sequence<UInt8>, bytesMax: Int = 200) -> String {
        let bytes = Array(name.prefix(bytesMax + 1))
        return printable(String(decoding: bytes.prefix(bytesMax), as: UTF8.self)) + (bytes.count > bytesMax ? "…" : "")
    }

    /// Messages name what others call things, and are shown on terminals.
    private static func printable(_ text: String) -> String {
        let isPrintable = { (scalar: Unicode.Scalar) in scalar.value >= 0x20 && !(0x7f...0x9f).contains(scalar.value) }
        if text.unicodeScalars.allSatisfy(isPrintable) { return text }
        return String(String.UnicodeScalarView(text.unicodeScalars.map { isPrintable($0) ? $0 : "?" }))
    }
}

extension MCFSError: CustomStringConvertible {
    package var description: String { message }
}
