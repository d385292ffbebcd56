import Glibc

/// A system call's error number.
package struct Errno: Error, Hashable, Sendable, CustomStringConvertible {
    package var rawValue: CInt

    package init(rawValue: CInt) { self.rawValue = rawValue }

    /// The calling thread's errno, read right after the call that set it.
    package static var current: Errno { Errno(rawValue: errno) }

    package static let noEntry = Errno(rawValue: ENOENT)
    package static let exists = Errno(rawValue: EEXIST)
    package static let interrupted = Errno(rawValue: EINTR)
    package static let noSpace = Errno(rawValue: ENOSPC)
    package static let quota = Errno(rawValue: EDQUOT)
    package static let io = Errno(rawValue: EIO)
    package static let wouldBlock = Errno(rawValue: EAGAIN)
    package static let notConnected = Errno(rawValue: ENOTCONN)

    package var description: String { String(cString: strerror(rawValue)) }
}

/// Runs a system call that returns −1 on error, again while a signal interrupts it.
package func retryingOnInterrupt<Result: SignedInteger>(_ call: () -> Result) throws(Errno) -> Result {
    while true {
        let result = call()
        if result != -1 { return result }
        let error = Errno.current
        if error != .interrupted { throw error }
    }
}

extension [UInt8] {
    /// `withUnsafeMutableBytes` for a body that throws an errno: the library's own loses the type of the error.
    package mutating func withBytes<Result>(
        _ body: (UnsafeMutableRawBufferPointer) throws(Errno) -> Result
    ) throws(Errno) -> Result {
        let result: Swift.Result<Result, Errno> = withUnsafeMutableBytes { buffer in
            do throws(Errno) { return .success(try body(buffer)) } catch { return .failure(error) }
        }
        return try result.get()
    }

    /// `withUnsafeBytes` likewise.
    package func withBytes<Result>(
        _ body: (UnsafeRawBufferPointer) throws(Errno) -> Result
    ) throws(Errno) -> Result {
        let result: Swift.Result<Result, Errno> = withUnsafeBytes { buffer in
            do throws(Errno) { return .success(try body(buffer)) } catch { return .failure(error) }
        }
        return try result.get()
    }
}
