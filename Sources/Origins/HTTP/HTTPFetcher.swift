internal import Foundation
internal import MCFSCore
internal import Synchronization
internal import Transport

/// Makes requests for one reference: follows redirects, and gives the credentials to its own server only.
struct HTTPFetcher: Sendable {
    let client: HTTPClient
    /// The reference's own place, whose server may see the credentials.
    let home: HTTPLocation
    /// The value of `Authorization`.
    let authorization: String?
    let tls: TLSOptions

    static let redirectsMax = 10
    /// For one small exchange; a hung server must not use up the time for the others.
    private static let exchangeTimeout = Duration.seconds(30)

    init(client: HTTPClient, home: HTTPLocation, userinfo: String?, tls: TLSOptions) {
        self.client = client
        self.home = home
        self.tls = tls
        authorization = userinfo.map { "Basic " + Data(HTTPLocation.decoded($0)).base64EncodedString() }
    }

    func request(_ location: HTTPLocation, headers: [(name: String, value: String)] = []) -> HTTPRequest {
        var request = HTTPRequest("GET", location.text, headers: headers, tls: tls)
        if let authorization, location.isSameServer(as: home) {
            request.headers.append(("Authorization", authorization))
        }
        return request
    }

    /// Calls `exchange` for `start` and for every place that it is sent on to. `exchange` gives nil where it is done.
    ///
    /// - Returns: the first answer that is no redirect, or nil, and the place that gave it. A redirect from a name to
    ///   the folder of that name is given back, too: it tells what the name is.
    func follow(
        _ start: HTTPLocation, headers: [(name: String, value: String)] = [],
        _ exchange: (HTTPRequest) throws(MCFSError) -> HTTPResponse?
    ) throws(MCFSError) -> (answer: HTTPResponse?, place: HTTPLocation) {
        var place = start
        for _ in 0...Self.redirectsMax {
            guard let answer = try exchange(request(place, headers: headers)) else { return (nil, place) }
            guard [301, 302, 303, 307, 308].contains(answer.status), let link = answer["Location"] else {
                return (answer, place)
            }
            guard let next = place.resolve(link) else {
                throw MCFSError(.originUnavailable, "\(start.shown.text) redirects to something that is not HTTP")
            }
            guard next.scheme == place.scheme || next.scheme == "https" else {
                throw MCFSError(
                    .originUnavailable,
                    "\(start.shown.text) redirects from https to http, where anybody on the way may alter what comes; mount the http:// URL if that will do"
                )
            }
            if next == place.with(path: place.path + "/", query: place.query) { return (answer, place) }
            place = next
        }
        throw MCFSError(.originUnavailable, "\(start.shown.text) redirects more than \(Self.redirectsMax) times")
    }

    /// An answer's head, and its body if it is wanted or short enough to keep the connection for.
    func get(
        _ start: HTTPLocation, headers: [(name: String, value: String)] = [], deadline: Deadline,
        wantsBody: @escaping @Sendable (HTTPResponse) -> Bool
    ) throws(MCFSError) -> (answer: HTTPResponse, place: HTTPLocation) {
        let client = client
        let result = try RetryPolicy().retrying(until: deadline) { () throws(MCFSError) in
            try follow(start, headers: headers + [("Accept-Encoding", "identity")]) { request throws(MCFSError) in
                let head = Kept()
                do throws(MCFSError) {
                    let limit = deadline.earlier(Deadline(after: Self.exchangeTimeout))
                    let answer = try client.perform(request, deadline: limit) { answer throws(MCFSError) in
                        let length = answer["Content-Length"].flatMap { OutsideNumber.byteCount($0) } ?? .max
                        if length > RangeReader.answerBytesMax, !wantsBody(answer) {
                            head.answer.withLock { $0 = answer }
                            throw MCFSError(.cancelled, "the body is not needed")
                        }
                        return nil
                    }
                    return try Self.unlessTransient(answer, start)
                } catch {
                    guard let answer = head.answer.withLock({ $0 }) else { throw error }
                    return try Self.unlessTransient(answer, start)
                }
            }
        }
        guard let answer = result.answer else { throw MCFSError(.failed, "no answer for \(start.shown.text)") }
        return (answer, result.place)
    }

    /// Throws what another try may mend, for `retrying` to see it.
    private static func unlessTransient(_ answer: HTTPResponse, _ start: HTTPLocation) throws(MCFSError) -> HTTPResponse
    {
        guard answer.status >= 400 else { return answer }
        let error = error(answer, start)
        if error.isTransient { throw error }
        return answer
    }

    static func error(_ answer: HTTPResponse, _ place: HTTPLocation) -> MCFSError {
        let remedy: String? =
            switch answer.status {
            case 401, 403: "check that it may be read, or write \(place.scheme)://USER:PASSWORD@\(place.authority)/…"
            case 404, 410: "check the URL"
            case 412, 416: "it was changed; mount it again"
            default: nil
            }
        return answer.error("read \(place.shown.text)", remedy: remedy)
    }

    private final class Kept: Sendable {
        let answer = Lock<HTTPResponse?>(nil)
    }
}
