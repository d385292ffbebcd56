import Glibc
import Logging
import MCFSCore
import MountFS
import Testing

@testable import FUSEServer

@Suite struct RequestHeaderTests {
    @Test("fewer bytes than a header has are none, of any length")
    func short() {
        let bytes = [UInt8](repeating: 1, count: RequestHeader.size)
        for count in 0..<RequestHeader.size {
            bytes.withUnsafeBytes { #expect(RequestHeader(UnsafeRawBufferPointer(rebasing: $0[..<count])) == nil) }
        }
        bytes.withUnsafeBytes { #expect(RequestHeader($0)?.operation == nil) }
    }

    @Test("fields are where the kernel puts them, at any alignment")
    func fields() throws {
        for shift in 0..<8 {
            let bytes = [UInt8](repeating: 0xff, count: shift) + Request(.read, node: 7, unique: 9).bytes
            let header = try #require(
                bytes.withUnsafeBytes { RequestHeader(UnsafeRawBufferPointer(rebasing: $0[shift...])) })
            #expect(header.operation == .read)
            #expect((header.node, header.unique) == (7, 9))
            #expect((header.uid, header.gid, header.thread) == (1, 2, 3))
            #expect(!header.isUnawaited)
        }
    }

    @Test("what nobody waits for is known", arguments: [UInt32(2), 18, 42]) func unawaited(number: UInt32) throws {
        let bytes = Request(number: number, node: 1).bytes
        #expect(try #require(bytes.withUnsafeBytes { RequestHeader($0) }).isUnawaited)
    }
}

@Suite struct DirectAnswersTests {
    private let fileSystem: MountFS
    private let context: ServingContext
    /// What the kernel would get comes out at the first end.
    private let kernel: OwnedDescriptor
    private let device: OwnedDescriptor
    private let answers: DirectAnswers

    init() throws {
        fileSystem = try Fixture.fileSystem(FakeStore())
        context = ServingContext(fileSystem, logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        var ends: [CInt] = [0, 0]
        guard pipe(&ends) == 0, fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0 else { throw Errno.current }
        (kernel, device) = (OwnedDescriptor(owning: ends[0]), OwnedDescriptor(owning: ends[1]))
        answers = DirectAnswers(context: context, device: device.rawValue)
    }

    private func node(_ name: String) throws -> UInt64 {
        try #require(try Array(name.utf8).withUnsafeBytes { try fileSystem.files.lookup($0, in: .root) }).node.number
    }

    private func isAnswered(_ request: Request, bytes: Int? = nil) throws -> Bool {
        try request.bytes.prefix(bytes ?? .max).withUnsafeBytes { bytes in
            answers.answer(try #require(RequestHeader(bytes)), bytes)
        }
    }

    /// The next answer: its error, whom it answers, and what follows. nil where there is none.
    private func next() throws -> (error: Int32, unique: UInt64, body: [UInt8])? {
        var bytes = [UInt8](repeating: 0, count: 16)
        guard read(kernel.rawValue, &bytes, 16) == 16 else { return nil }
        return bytes.withUnsafeBytes { header in
            let length = Int(header.loadUnaligned(fromByteOffset: 0, as: UInt32.self))
            var body = [UInt8](repeating: 0, count: length - 16)
            #expect(read(kernel.rawValue, &body, length - 16) == length - 16)
            return (
                header.loadUnaligned(fromByteOffset: 4, as: Int32.self),
                header.loadUnaligned(fromByteOffset: 8, as: UInt64.self), body
            )
        }
    }

    @Test("an open for reading and its release are answered, each once")
    func openAndRelease() throws {
        let file = try node("file.bin")
        #expect(try isAnswered(Request(.open, node: file, unique: 5)))
        let opened = try #require(try next())
        #expect((opened.error, opened.unique, opened.body.count) == (0, 5, 16))
        #expect(fileSystem.openFileCount == 1)
        #expect(try isAnswered(Request(.release, node: file, unique: 6)))
        let released = try #require(try next())
        #expect((released.error, released.unique, released.body) == (0, 6, []))
        #expect(fileSystem.openFileCount == 0)
        #expect(try next() == nil)
    }

    @Test(
        "what writes, and what is another request, is left to libfuse",
        arguments: [O_WRONLY, O_RDWR, O_RDONLY | O_TRUNC, O_ACCMODE])
    func writing(flags: CInt) throws {
        #expect(try !isAnswered(Request(.open, node: try node("file.bin"), flags: flags)))
        #expect(try !isAnswered(Request(.read, node: try node("file.bin"))))
        #expect(try !isAnswered(Request(number: 9999, node: try node("file.bin"))))
        #expect(fileSystem.openFileCount == 0)
        #expect(try next() == nil)
    }

    @Test("an open that is cut off is left to libfuse")
    func short() throws {
        for count in RequestHeader.size..<RequestHeader.size + 8 {
            #expect(try !isAnswered(Request(.open, node: try node("file.bin")), bytes: count))
        }
        #expect(fileSystem.openFileCount == 0)
        #expect(try next() == nil)
    }

    @Test("what does not exist is an error for who asked", arguments: [UInt64(0), 1 << 40, .max])
    func unknown(number: UInt64) throws {
        #expect(try isAnswered(Request(.open, node: number, unique: 8)))
        let answer = try #require(try next())
        #expect((answer.error, answer.unique, answer.body) == (-ENOENT, 8, []))
        #expect(try isAnswered(Request(.release, node: number, unique: 9)))
        #expect(try next()?.error == 0)
        #expect(fileSystem.openFileCount == 0)
    }

    @Test("an open whose answer nobody takes is undone: no release will come")
    func interrupted() throws {
        let file = try node("file.bin")
        let gone = DirectAnswers(context: context, device: -1)
        let isAnswered = try Request(.open, node: file).bytes.withUnsafeBytes { bytes in
            gone.answer(try #require(RequestHeader(bytes)), bytes)
        }
        #expect(isAnswered)
        #expect(fileSystem.openFileCount == 0)
    }
}

/// As the kernel writes it: `fuse_in_header` and `fuse_open_in`.
private struct Request {
    let bytes: [UInt8]

    init(_ operation: RequestHeader.Operation, node: UInt64, unique: UInt64 = 1, flags: CInt = O_RDONLY) {
        self.init(number: operation.rawValue, node: node, unique: unique, flags: flags)
    }

    init(number: UInt32, node: UInt64, unique: UInt64 = 1, flags: CInt = O_RDONLY) {
        func field(_ value: some FixedWidthInteger) -> [UInt8] { withUnsafeBytes(of: value.littleEndian) { Array($0) } }
        let ids = [UInt32(1), 2, 3, 0].flatMap { field($0) }
        bytes = field(UInt32(48)) + field(number) + field(unique) + field(node) + ids + field(flags) + field(UInt32(0))
    }
}
