internal import CCurl
internal import MCFSCore

/// Says in our words why curl could not complete a transfer. Names the host and port and nothing else of the URL,
/// whose path and query may be a signature.
struct HTTPFailure {
    let easy: UnsafeMutableRawPointer
    let endpoint: String
    let curlText: String
    let stallTimeout: Duration

    /// `received`: bytes of the body and what `Content-Length` said; nil where not even the head came.
    func error(_ result: CURLcode, received: (bytes: UInt64, of: UInt64?)?) -> MCFSError {
        switch result {
        case CURLE_COULDNT_RESOLVE_HOST:
            return transient(
                "cannot reach \(endpoint): its name cannot be resolved; check the name and this host's network")
        case CURLE_COULDNT_RESOLVE_PROXY:
            return transient(
                "cannot reach \(endpoint): the proxy's name cannot be resolved; check http_proxy and https_proxy")
        case CURLE_COULDNT_CONNECT:
            return transient("cannot connect to \(endpoint): \(systemReason)")
        case CURLE_OPERATION_TIMEDOUT:
            return transient(
                isConnected
                    ? received == nil
                        ? "\(endpoint) did not answer for \(stallTimeout.components.seconds) s"
                        : "\(endpoint) sent less than \(HTTPExchange.stallRate) bytes a second for \(stallTimeout.components.seconds) s"
                    : "cannot connect to \(endpoint): no answer in \(HTTPExchange.connectTimeout.components.seconds) s")
        case CURLE_PARTIAL_FILE, CURLE_RECV_ERROR, CURLE_SEND_ERROR, CURLE_GOT_NOTHING, CURLE_SSL_CONNECT_ERROR:
            return interrupted(result, received)
        case CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_ISSUER_ERROR, CURLE_SSL_INVALIDCERTSTATUS:
            return MCFSError(
                .originUnavailable,
                "cannot trust \(endpoint): \(curlText); add its certificate authority to this host or to the configuration"
            )
        case CURLE_SSL_CACERT_BADFILE, CURLE_SSL_CERTPROBLEM, CURLE_SSL_CIPHER:
            return MCFSError(.configuration, "cannot use the TLS files configured for \(endpoint): \(curlText)")
        case CURLE_URL_MALFORMAT, CURLE_UNSUPPORTED_PROTOCOL:
            return MCFSError(.usage, "the URL for \(endpoint) is malformed; write http://HOST[:PORT]/PATH or https://…")
        case CURLE_OUT_OF_MEMORY:
            return MCFSError(.failed, "no memory for a transfer from \(endpoint)", isTransient: true)
        default:
            return transient("\(endpoint) did not answer in valid HTTP: \(String(cString: curl_easy_strerror(result)))")
        }
    }

    private func interrupted(_ result: CURLcode, _ received: (bytes: UInt64, of: UInt64?)?) -> MCFSError {
        // Curl reports a proxy's refusal of CONNECT as a receive error.
        if curlText.contains("from proxy after CONNECT") {
            return transient("cannot reach \(endpoint): \(curlText)")
        }
        if let received, let length = received.of, received.bytes < length {
            return transient("\(endpoint) sent \(received.bytes) of \(length) bytes, then the connection ended")
        }
        if result == CURLE_GOT_NOTHING { return transient("\(endpoint) closed the connection without an answer") }
        if result == CURLE_SSL_CONNECT_ERROR { return transient("no TLS connection to \(endpoint): \(curlText)") }
        return transient("the connection to \(endpoint) was reset")
    }

    private func transient(_ message: String) -> MCFSError {
        MCFSError(.originUnavailable, message, isTransient: true)
    }

    private var systemReason: String {
        var code = 0
        mcfs_getinfo_long(easy, CURLINFO_OS_ERRNO, &code)
        return code == 0 ? "no address of it answers" : Errno(rawValue: CInt(truncatingIfNeeded: code)).description
    }

    private var isConnected: Bool {
        var time: curl_off_t = 0
        mcfs_getinfo_offset(easy, CURLINFO_PRETRANSFER_TIME_T, &time)
        return time > 0
    }
}
