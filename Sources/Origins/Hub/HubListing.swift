internal import FoundationEssentials
internal import MCFSCore
internal import Transport

/// An entry as the Hub's `tree` lists it.
struct HubListingEntry: Decodable {
    struct LargeFile: Decodable {
        /// SHA-256 of the content.
        var oid: String
        var size: UInt64
    }
    struct Commit: Decodable { var date: String? }

    var type: String
    var path: String
    /// Of the git object: for a large file that of its pointer.
    var oid: String
    var size: UInt64?
    var lfs: LargeFile?
    var lastCommit: Commit?
}

/// Reads a commit's tree, page by page.
struct HubListing {
    /// The Hub puts about 1000 entries on a page and asks for fewer than 100 000 files in a repository.
    static let pagesMax = 4000
    /// Longest page, in bytes: a thousand entries take half a MiB.
    static let pageBytesMax = 16 << 20

    var client: HubClient
    var repository: HubRepository
    var commit: String
    var subdirectory: TreePath

    /// Gives every entry of every page to `body`.
    func read(
        deadline: Deadline, _ body: (HubListingEntry) throws(MCFSError) -> Void
    ) throws(MCFSError) {
        let shown = subdirectory.isRoot ? repository.description : "\(repository.description)/\(subdirectory)"
        let refusal = client.refusal(
            "list \(shown)", repository, revision: commit, path: subdirectory.isRoot ? nil : subdirectory.description)
        var page = repository.apiPath + "/tree/" + commit
        if !subdirectory.isRoot {
            page += "/" + HubReference.percentEncoded(subdirectory.description, keepsSlashes: true)
        }
        page += "?recursive=true"
        var seen: Set<String> = []
        let budget = MetadataBudget()
        while seen.insert(page).inserted, seen.count <= Self.pagesMax {
            let response = try client.get(page, refusal, deadline: deadline, bodyBytesMax: Self.pageBytesMax)
            let entries: [HubListingEntry]
            do {
                entries = try JSONDecoder().decode([HubListingEntry].self, from: Data(response.body))
            } catch {
                throw refusal.failure(.corrupt, "the Hub's answer is no listing; check HF_ENDPOINT")
            }
            try budget.take(
                entries: entries.count, bytes: entries.reduce(0) { $0 + 128 + $1.path.utf8.count }, of: shown)
            for entry in entries { try body(entry) }
            guard let next = Self.next(in: response) else { return }
            guard let address = HubAddress(client.origin + "/")?.resolving(next), address.origin == client.origin else {
                throw refusal.failure(
                    .originUnavailable, "its next page is on another host; set HF_ENDPOINT to the host that answers")
            }
            page = address.text
        }
        throw refusal.failure(.originUnavailable, "the pages of its listing do not end; check HF_ENDPOINT")
    }

    /// The target of `Link: <…>; rel="next"`, among other links or alone.
    static func next(in response: HTTPResponse) -> String? {
        for header in response.headers where header.name.lowercased() == "link" {
            var rest = Substring(header.value)
            while let start = rest.firstIndex(of: "<"), let end = rest[start...].firstIndex(of: ">") {
                let target = rest[rest.index(after: start)..<end]
                rest = rest[rest.index(after: end)...]
                let parameters = rest.prefix { $0 != "<" }.lowercased()
                for parameter in parameters.split(whereSeparator: { ";,".contains($0) }) {
                    let plain = parameter.filter { $0 != " " && $0 != "\"" }
                    if plain == "rel=next" { return String(target) }
                }
            }
        }
        return nil
    }
}
