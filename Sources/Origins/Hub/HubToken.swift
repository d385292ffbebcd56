internal import FoundationEssentials
internal import MCFSCore
internal import Synchronization

/// The token that a user of the Hub has: `HF_TOKEN`, or the file that `hf auth login` writes. Thread safe.
final class HubToken: Sendable {
    private let environment: Environment
    private let known: Lock<Known> = Lock(.unread)

    private enum Known: Equatable {
        case unread
        case read(String?)
    }

    init(_ environment: Environment) { self.environment = environment }

    /// nil where there is none, or `HF_HUB_DISABLE_IMPLICIT_TOKEN` is set. Looked up once.
    var value: String? {
        known.withLock { known in
            if case .read(let token) = known { return token }
            let token = lookUp()
            known = .read(token)
            return token
        }
    }

    /// Looks it up again after the Hub refused `token`.
    /// - Returns: whether there is another one now.
    func renew(refused token: String?) -> Bool {
        known.withLock { known in
            let now = lookUp()
            known = .read(now)
            return now != nil && now != token
        }
    }

    private func lookUp() -> String? {
        if environment.isHubSwitchOn("HF_HUB_DISABLE_IMPLICIT_TOKEN") { return nil }
        for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
            if let token = environment[name].flatMap(Self.cleaned) { return token }
        }
        guard let data = FileManager.default.contents(atPath: path), data.count <= 65_536 else { return nil }
        return Self.cleaned(String(decoding: data, as: UTF8.self))
    }

    private var path: String {
        if let path = environment["HF_TOKEN_PATH"] { return expanded(path) }
        if let home = environment["HF_HOME"] { return expanded(home) + "/token" }
        if let cache = environment["XDG_CACHE_HOME"] { return expanded(cache) + "/huggingface/token" }
        return environment.home + "/.cache/huggingface/token"
    }

    private func expanded(_ path: String) -> String {
        path == "~" || path.hasPrefix("~/") ? environment.home + path.dropFirst() : path
    }

    /// Without the white space around it. nil for what cannot stand in a header.
    private static func cleaned(_ text: String) -> String? {
        let token = String(text.drop(while: \.isWhitespace).reversed().drop(while: \.isWhitespace).reversed())
        return !token.isEmpty && token.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f } ? token : nil
    }
}

extension Environment {
    /// As the Hub's own client reads switches: `1`, `ON`, `YES` or `TRUE` in any case.
    func isHubSwitchOn(_ name: String) -> Bool { ["1", "ON", "YES", "TRUE"].contains(self[name]?.uppercased() ?? "") }
}
