internal import ControlAPI

/// What cannot be checked, for people.
enum UnverifiableText {
    /// Such as `3 files (1.2 GiB)`.
    static func files(_ unverifiable: Unverifiable) -> String { files(unverifiable.files, unverifiable.bytes) }

    static func files(_ count: Int, _ bytes: UInt64) -> String {
        "\(count) \(count == 1 ? "file" : "files") (\(ByteSize.text(bytes)))"
    }
}
