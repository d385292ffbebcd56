extension ScriptedServer {
    /// One request as it came over the wire.
    package struct Request: Sendable {
        package var method: String
        /// Path and query, as sent.
        package var target: String
        package var headers: [(name: String, value: String)]
        package var body: [UInt8]

        /// The first value of a header, by its name in any case.
        package subscript(name: String) -> String? {
            headers.first { $0.name.lowercased() == name.lowercased() }?.value
        }

        /// The target up to its query, not decoded.
        package var path: String { String(target.prefix { $0 != "?" }) }

        /// What follows the first `?`, not decoded; nil without one.
        package var query: String? {
            target.firstIndex(of: "?").map { String(target[target.index(after: $0)...]) }
        }

        /// First and last byte of `Range: bytes=A-B`, cut to `size`; nil without one, or where it begins after the end.
        package func range(ofSize size: Int) -> ClosedRange<Int>? {
            guard let value = self["Range"], value.hasPrefix("bytes=") else { return nil }
            let bounds = value.dropFirst(6).split(separator: "-", omittingEmptySubsequences: false)
            guard bounds.count == 2, let first = Int(bounds[0]), first < size else { return nil }
            let last = min(Int(bounds[1]) ?? size - 1, size - 1)
            return first <= last ? first...last : nil
        }
    }

    /// What the server does with a request.
    package struct Answer: Sendable {
        package enum Delivery: Sendable {
            /// All of it; the connection stays open. The server adds `Content-Length` unless the answer has one.
            case whole
            /// `Transfer-Encoding: chunked`.
            case chunked
            /// All of it with no length: the closed connection ends the body.
            case untilClose
            /// Head (with the whole `Content-Length`) and this many bytes of the body, then the connection is closed,
            case close(after: Int)
            /// is reset,
            case reset(after: Int)
            /// or says nothing more until the client or `stop` ends it.
            case stall(after: Int)
            /// Not even a head: closed, reset, or silent.
            case closeAtOnce, resetAtOnce, stallAtOnce
        }

        package var status: Int
        package var headers: [(name: String, value: String)]
        package var body: [UInt8]
        package var delivery: Delivery

        package init(
            _ status: Int = 200, headers: [(name: String, value: String)] = [], body: [UInt8] = [],
            delivery: Delivery = .whole
        ) {
            self.status = status
            self.headers = headers
            self.body = body
            self.delivery = delivery
        }

        package init(_ status: Int = 200, headers: [(name: String, value: String)] = [], text: String) {
            self.init(status, headers: headers, body: Array(text.utf8))
        }

        /// The same answer, delivered in another way.
        package func delivered(_ delivery: Delivery) -> Answer {
            var answer = self
            answer.delivery = delivery
            return answer
        }

        /// Serves `content` as a right server does: ranges, `If-Range`, `If-Match`, 416.
        package static func file(
            _ content: [UInt8], for request: Request, etag: String? = nil, headers: [(name: String, value: String)] = []
        ) -> Answer {
            var headers = headers + [("Accept-Ranges", "bytes")]
            if let etag { headers.append(("ETag", etag)) }
            if let wanted = request["If-Match"], wanted != "*", wanted != etag { return Answer(412, headers: headers) }
            guard request["Range"] != nil, request["If-Range"].map({ $0 == etag }) ?? true else {
                return Answer(200, headers: headers, body: content)
            }
            guard let range = request.range(ofSize: content.count) else {
                return Answer(416, headers: headers + [("Content-Range", "bytes */\(content.count)")])
            }
            headers.append(("Content-Range", "bytes \(range.lowerBound)-\(range.upperBound)/\(content.count)"))
            return Answer(206, headers: headers, body: Array(content[range]))
        }
    }
}
