internal import CCurl
internal import MCFSCore

/// One transfer on its loop's thread: its curl handle's options and callbacks. Used by that thread only.
final class HTTPExchange {
    let transfer: HTTPTransfer
    let easy: UnsafeMutableRawPointer
    /// Asks the loop to call `resume`.
    private let whenDrained: @Sendable () -> Void
    private var headerList: UnsafeMutablePointer<curl_slist>?
    /// Curl's words for a failure; used for TLS alone, where they are the ones people search for.
    private let errorText: UnsafeMutablePointer<CChar>

    private var response = HTTPResponse(status: 0)
    private var headBytes = 0
    private var isHeadComplete = false
    private var sink: (any ByteSink)?
    private var bodyBytes: UInt64 = 0
    private var stallTimeout: Duration
    /// When the first bytes of the body came.
    private var bodyBegan: ContinuousClock.Instant?
    /// What ended the transfer on our side.
    private var failure: MCFSError?

    /// Longest head that is accepted, in bytes.
    private static let headBytesMax = 1 << 20
    static let connectTimeout = Duration.seconds(5)
    static let stallTimeout = Duration.seconds(15)
    /// Curl's speed is that of the last 5 s: until then it knows a transfer that began late as one that stands still.
    private static let speedWindow = Duration.seconds(6)
    /// Bytes per second below which a transfer counts as stalled.
    static let stallRate = 1024

    /// `easy` is a fresh or reset handle, which stays the caller's. `whenDrained` is called from any thread when a sink
    /// that was full takes more.
    init(_ transfer: HTTPTransfer, easy: UnsafeMutableRawPointer, whenDrained: @escaping @Sendable () -> Void) {
        self.transfer = transfer
        stallTimeout = transfer.stallTimeout
        self.whenDrained = whenDrained
        self.easy = easy
        errorText = .allocate(capacity: Int(CURL_ERROR_SIZE))
        errorText.initialize(repeating: 0, count: Int(CURL_ERROR_SIZE))
    }

    deinit {
        curl_slist_free_all(headerList)
        errorText.deallocate()
    }

    private var endpoint: String { transfer.request.endpoint }

    // MARK: Options

    func prepare() throws(MCFSError) {
        let request = transfer.request
        // Curl would send them as they are: a line break in a token file must not become a header.
        guard request.url.utf8.allSatisfy({ $0 > 0x20 && $0 != 0x7f }) else {
            throw MCFSError(.usage, "the URL for \(endpoint) holds a space or a control character; percent-encode it")
        }
        setCommonOptions()
        mcfs_setopt_string(easy, CURLOPT_URL, request.url)
        try setMethod(request)
        try setHeaders(request)
        setTLS(request.tls)
        if let socket = request.unixSocket {
            mcfs_setopt_string(easy, CURLOPT_UNIX_SOCKET_PATH, socket)
            mcfs_setopt_string(easy, CURLOPT_PROXY, "")
        } else {
            // A local peer may think as long as it likes: there, only the deadline counts.
            mcfs_setopt_long(easy, CURLOPT_LOW_SPEED_LIMIT, Self.stallRate)
            setStallTimeout(transfer.firstByteTimeout)
        }
    }

    private func setStallTimeout(_ timeout: Duration) {
        stallTimeout = timeout
        mcfs_setopt_long(easy, CURLOPT_LOW_SPEED_TIME, Int(timeout.components.seconds))
    }

    private func setCommonOptions() {
        let pointer = Unmanaged.passUnretained(self).toOpaque()
        mcfs_setopt_pointer(easy, CURLOPT_PRIVATE, pointer)
        mcfs_setopt_pointer(easy, CURLOPT_ERRORBUFFER, errorText)
        mcfs_setopt_pointer(easy, CURLOPT_HEADERDATA, pointer)
        mcfs_setopt_callback(easy, CURLOPT_HEADERFUNCTION) { bytes, _, count, pointer in
            guard let bytes, let pointer else { return 0 }
            let exchange = Unmanaged<HTTPExchange>.fromOpaque(pointer).takeUnretainedValue()
            return exchange.takeHeader(UnsafeRawBufferPointer(start: bytes, count: count)) ? count : 0
        }
        mcfs_setopt_pointer(easy, CURLOPT_WRITEDATA, pointer)
        mcfs_setopt_callback(easy, CURLOPT_WRITEFUNCTION) { bytes, _, count, pointer in
            guard let bytes, let pointer else { return 0 }
            let exchange = Unmanaged<HTTPExchange>.fromOpaque(pointer).takeUnretainedValue()
            return exchange.takeBody(UnsafeRawBufferPointer(start: bytes, count: count))
        }
        // HTTP/2 puts all transfers to a host on one connection, and curl 7.88 can stall or cut them there.
        mcfs_setopt_long(easy, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1)
        mcfs_setopt_long(easy, CURLOPT_NOSIGNAL, 1)
        mcfs_setopt_long(easy, CURLOPT_FOLLOWLOCATION, 0)
        mcfs_setopt_string(easy, CURLOPT_PROTOCOLS_STR, "http,https")
        mcfs_setopt_long(easy, CURLOPT_PATH_AS_IS, 1)
        mcfs_setopt_long(easy, CURLOPT_BUFFERSIZE, 512 << 10)
        mcfs_setopt_long(easy, CURLOPT_TCP_KEEPALIVE, 1)
        mcfs_setopt_long(easy, CURLOPT_DNS_SHUFFLE_ADDRESSES, 1)
        mcfs_setopt_long(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1)
        // Without it, removing a transfer waits for its name look-up and holds up all others.
        mcfs_setopt_long(easy, CURLOPT_QUICK_EXIT, 1)
        mcfs_setopt_long(easy, CURLOPT_CONNECTTIMEOUT_MS, Int(Self.connectTimeout.milliseconds))
    }

    private func setMethod(_ request: HTTPRequest) throws(MCFSError) {
        guard !request.method.isEmpty, request.method.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else {
            throw MCFSError(.failed, "cannot ask \(endpoint): the request has no valid method")
        }
        if request.method == "HEAD" {
            mcfs_setopt_long(easy, CURLOPT_NOBODY, 1)
            return
        }
        if request.body != nil || request.method == "POST" {
            let body = request.body ?? []
            mcfs_setopt_long(easy, CURLOPT_POST, 1)
            mcfs_setopt_offset(easy, CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t(body.count))
            body.withUnsafeBytes { bytes in
                _ = mcfs_setopt_pointer(
                    easy, CURLOPT_COPYPOSTFIELDS, UnsafeMutableRawPointer(mutating: bytes.baseAddress))
            }
        }
        if request.method != "GET" || request.body != nil {
            mcfs_setopt_string(easy, CURLOPT_CUSTOMREQUEST, request.method)
        }
    }

    private func setHeaders(_ request: HTTPRequest) throws(MCFSError) {
        for (name, value) in request.headers {
            guard !name.isEmpty, name.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f && $0 != 0x3a }),
                value.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7f || $0 == 0x09 })
            else {
                throw MCFSError(
                    .configuration,
                    "cannot ask \(endpoint): the value for header '\(name.filter { !$0.isNewline })' holds a line break or control character"
                )
            }
            // To curl, "Name:" means to leave the header out, and "Name;" that it is empty.
            append(value.isEmpty ? "\(name);" : "\(name): \(value)")
        }
        func lacks(_ wanted: String) -> Bool { !request.headers.contains { $0.name.lowercased() == wanted } }
        if lacks("user-agent") { append("User-Agent: mcfs") }
        // Waiting for "100 Continue" costs a second with servers that do not know it.
        if lacks("expect") { append("Expect:") }
        if lacks("content-type") { append("Content-Type:") }
        mcfs_setopt_list(easy, CURLOPT_HTTPHEADER, headerList)
    }

    private func append(_ line: String) {
        // nil stands for no memory, and leaves the list as it was.
        if let list = curl_slist_append(headerList, line) { headerList = list }
    }

    private func setTLS(_ tls: TLSOptions) {
        if let path = tls.certificateAuthority { mcfs_setopt_string(easy, CURLOPT_CAINFO, path) }
        if let path = tls.clientCertificate { mcfs_setopt_string(easy, CURLOPT_SSLCERT, path) }
        if let path = tls.clientKey { mcfs_setopt_string(easy, CURLOPT_SSLKEY, path) }
        if tls.skipsVerification {
            mcfs_setopt_long(easy, CURLOPT_SSL_VERIFYPEER, 0)
            mcfs_setopt_long(easy, CURLOPT_SSL_VERIFYHOST, 0)
        }
    }

    // MARK: Callbacks

    /// One line of a head. - Returns: whether the transfer goes on.
    private func takeHeader(_ line: UnsafeRawBufferPointer) -> Bool {
        // What follows the final head are trailers.
        if isHeadComplete { return true }
        headBytes += line.count
        guard headBytes <= Self.headBytesMax else {
            failure = MCFSError(.originUnavailable, "the headers of the answer of \(endpoint) are too long")
            return false
        }
        let text = String(decoding: line, as: UTF8.self).trimmingLineEnd()
        if text.isEmpty { return response.status < 200 || completeHead() }
        if response.headers.isEmpty || text.hasPrefix("HTTP/"), let status = Self.status(of: text) {
            response = HTTPResponse(status: status)
        } else if let colon = text.utf8.firstIndex(of: UInt8(ascii: ":")) {
            let value = text[text.utf8.index(after: colon)...].drop { $0 == " " || $0 == "\t" }
            response.headers.append((String(text[..<colon]), String(value)))
        }
        return true
    }

    /// The number in `HTTP/1.1 200 OK`.
    private static func status(of line: String) -> Int? {
        guard line.hasPrefix("HTTP/") else { return nil }
        let fields = line.split(separator: " ", maxSplits: 2)
        return fields.count > 1 ? Int(fields[1]) : nil
    }

    private func completeHead() -> Bool {
        isHeadComplete = true
        guard transfer.enterCallback() else { return false }
        defer { transfer.leaveCallback() }
        do throws(MCFSError) {
            sink = try transfer.receive(response)
            return true
        } catch {
            failure = error
            return false
        }
    }

    /// - Returns: the number of bytes; 0 to end the transfer; or curl's word for keeping the bytes and asking nothing more
    ///   of the connection until `resume`.
    private func takeBody(_ bytes: UnsafeRawBufferPointer) -> Int {
        if stallTimeout > transfer.stallTimeout, transfer.request.unixSocket == nil {
            let now = ContinuousClock.now
            if now - (bodyBegan ?? now) > Self.speedWindow { setStallTimeout(transfer.stallTimeout) }
            bodyBegan = bodyBegan ?? now
        }
        guard let sink else {
            transfer.meter?.count(bytes.count)
            bodyBytes += UInt64(bytes.count)
            return collect(bytes) ? bytes.count : 0
        }
        guard transfer.enterCallback() else { return 0 }
        defer { transfer.leaveCallback() }
        if sink.isFull(whenDrained: whenDrained) { return Int(CURL_WRITEFUNC_PAUSE) }
        transfer.meter?.count(bytes.count)
        bodyBytes += UInt64(bytes.count)
        do throws(MCFSError) {
            try sink.write(bytes)
            return bytes.count
        } catch {
            failure = error
            return 0
        }
    }

    /// Goes on with a transfer that its sink held up; curl delivers what it kept at once.
    ///
    /// - Returns: how the transfer ended; nil where it goes on.
    func resume() -> HTTPTransfer.Outcome? {
        let result = curl_easy_pause(easy, CURLPAUSE_RECV_CONT)
        return result == CURLE_OK ? nil : outcome(result)
    }

    private func collect(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard response.body.count + bytes.count <= HTTPClient.collectedBodyBytesMax else {
            failure = MCFSError(
                .originUnavailable,
                "the answer of \(endpoint) is longer than \(HTTPClient.collectedBodyBytesMax >> 20) MiB")
            return false
        }
        response.body.append(contentsOf: bytes)
        return true
    }

    // MARK: End

    /// What the transfer came to, by curl's result.
    func outcome(_ result: CURLcode) -> HTTPTransfer.Outcome {
        if let failure { return .failure(failure) }
        if result == CURLE_OK, isHeadComplete { return .success(response) }
        let length = response["Content-Length"].flatMap { UInt64($0) }
        return .failure(
            HTTPFailure(
                easy: easy, endpoint: endpoint, curlText: String(cString: errorText), stallTimeout: stallTimeout
            ).error(result, received: isHeadComplete ? (bodyBytes, length) : nil))
    }
}

extension String {
    fileprivate func trimmingLineEnd() -> String {
        var view = self.unicodeScalars[...]
        while let last = view.last, last == "\r" || last == "\n" || last == " " || last == "\t" { view.removeLast() }
        return String(view)
    }
}
