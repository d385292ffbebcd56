internal import Glibc

/// Reads requests from one socket and writes answers to it. Used by one thread; does not own the descriptor.
final class ScriptedConnection {
    /// Longer heads end the connection, in bytes.
    private static let headBytesMax = 1 << 20

    /// POLLRDHUP, which the Glibc module lacks.
    private static let peerClosed: Int16 = 0x2000

    private let descriptor: CInt
    private var buffer: [UInt8] = []

    init(_ descriptor: CInt) { self.descriptor = descriptor }

    /// nil at the end of the connection, or for anything that is not HTTP/1.1.
    func readRequest() -> ScriptedServer.Request? {
        guard let head = readHead() else { return nil }
        let lines = String(decoding: head, as: UTF8.self).split(separator: "\r\n", omittingEmptySubsequences: false)
        let first = lines.first?.split(separator: " ") ?? []
        guard first.count == 3, first[2].hasPrefix("HTTP/1.") else { return nil }
        var headers: [(name: String, value: String)] = []
        for line in lines.dropFirst() where !line.isEmpty {
            guard let colon = line.firstIndex(of: ":") else { return nil }
            let value = line[line.index(after: colon)...].drop { $0 == " " }
            headers.append((String(line[..<colon]), String(value)))
        }
        var request = ScriptedServer.Request(
            method: String(first[0]), target: String(first[1]), headers: headers, body: [])
        if request["Expect"]?.lowercased() == "100-continue" { _ = write(Array("HTTP/1.1 100 Continue\r\n\r\n".utf8)) }
        if request["Transfer-Encoding"]?.lowercased() == "chunked" {
            guard let body = readChunked() else { return nil }
            request.body = body
        } else if let length = request["Content-Length"] {
            guard let length = Int(length), length >= 0, let body = take(length) else { return nil }
            request.body = body
        }
        return request
    }

    /// - Returns: whether the connection can take another request.
    func send(_ answer: ScriptedServer.Answer, to request: ScriptedServer.Request) -> Bool {
        let hasBody = request.method != "HEAD" && answer.status != 204 && answer.status != 304
        switch answer.delivery {
        case .closeAtOnce: return false
        case .resetAtOnce: return reset()
        case .stallAtOnce: return stall()
        case .whole:
            return write(head(answer, framing: length(answer))) && (!hasBody || write(answer.body))
        case .chunked:
            guard write(head(answer, framing: ("Transfer-Encoding", "chunked"))) else { return false }
            return !hasBody || writeChunked(answer.body)
        case .untilClose:
            _ = write(head(answer, framing: ("Connection", "close"))) && (!hasBody || write(answer.body))
            return false
        case .close(let count):
            _ = write(head(answer, framing: length(answer))) && write(Array(answer.body.prefix(count)))
            return false
        case .reset(let count):
            _ = write(head(answer, framing: length(answer))) && write(Array(answer.body.prefix(count)))
            return reset()
        case .stall(let count):
            _ = write(head(answer, framing: length(answer))) && write(Array(answer.body.prefix(count)))
            return stall()
        }
    }

    private func length(_ answer: ScriptedServer.Answer) -> (String, String)? {
        if answer.headers.contains(where: { $0.name.lowercased() == "content-length" }) { return nil }
        return answer.status == 204 || answer.status == 304 ? nil : ("Content-Length", "\(answer.body.count)")
    }

    private func head(_ answer: ScriptedServer.Answer, framing: (String, String)?) -> [UInt8] {
        var text = "HTTP/1.1 \(answer.status) Scripted\r\n"
        for (name, value) in answer.headers { text += "\(name): \(value)\r\n" }
        if let framing { text += "\(framing.0): \(framing.1)\r\n" }
        return Array((text + "\r\n").utf8)
    }

    /// Small chunks, so that clients meet their borders.
    private func writeChunked(_ body: [UInt8]) -> Bool {
        var rest = body[...]
        while !rest.isEmpty {
            let piece = rest.prefix(max(1, min(1000, rest.count)))
            rest = rest.dropFirst(piece.count)
            let framed = Array("\(String(piece.count, radix: 16))\r\n".utf8) + piece + Array("\r\n".utf8)
            if !write(framed) { return false }
        }
        return write(Array("0\r\n\r\n".utf8))
    }

    /// Closing with a linger time of 0 sends RST.
    private func reset() -> Bool {
        var option = linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
        return false
    }

    private func stall() -> Bool {
        var entry = pollfd(fd: descriptor, events: Self.peerClosed, revents: 0)
        while poll(&entry, 1, -1) < 0, errno == EINTR {}
        return false
    }

    private func readHead() -> [UInt8]? {
        let end: [UInt8] = [13, 10, 13, 10]
        var searched = 0
        while true {
            if buffer.count >= 4, searched <= buffer.count - 4 {
                for index in searched...buffer.count - 4 where buffer[index..<index + 4].elementsEqual(end) {
                    let head = Array(buffer[..<index])
                    buffer.removeFirst(index + 4)
                    return head
                }
                searched = buffer.count - 3
            }
            guard buffer.count < Self.headBytesMax, fill() else { return nil }
        }
    }

    private func readChunked() -> [UInt8]? {
        var body: [UInt8] = []
        while let line = readLine() {
            guard let count = Int(line.prefix { $0 != ";" }, radix: 16), count >= 0 else { return nil }
            if count == 0 {
                while let line = readLine(), !line.isEmpty {}
                return body
            }
            guard let piece = take(count), readLine() != nil else { return nil }
            body += piece
        }
        return nil
    }

    private func readLine() -> String? {
        while true {
            if let end = buffer.firstIndex(of: 10) {
                let line = buffer[..<end].filter { $0 != 13 }
                buffer.removeFirst(end + 1)
                return String(decoding: line, as: UTF8.self)
            }
            guard buffer.count < Self.headBytesMax, fill() else { return nil }
        }
    }

    private func take(_ count: Int) -> [UInt8]? {
        while buffer.count < count { guard fill() else { return nil } }
        let bytes = Array(buffer[..<count])
        buffer.removeFirst(count)
        return bytes
    }

    private func fill() -> Bool {
        var piece = [UInt8](repeating: 0, count: 64 << 10)
        while true {
            let count = recv(descriptor, &piece, piece.count, 0)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return false }
            buffer += piece[..<count]
            return true
        }
    }

    private func write(_ bytes: [UInt8]) -> Bool {
        var done = 0
        while done < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress! + done, bytes.count - done, CInt(MSG_NOSIGNAL))
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { return false }
            done += count
        }
        return true
    }
}
