package import KernelCaches
internal import MCFSCore

/// One entry of a kernel cache, as the inventory knows it.
package struct IndexedKernel: Hashable, Sendable {
    /// Absolute, of its directory; of a reference's tree: the reference, `/`, and the path in it. Any bytes.
    package var path: [UInt8]
    package var kind: KernelEntry.Kind
    /// In hex digits.
    package var hash: String?
    package var name: String?
    /// As its metadata spells it.
    package var backend: String?
    /// `90`, `gfx942`; several with commas between them.
    package var arch: String?
    package var warpSize: Int?
    package var tritonVersion: String?
    package var numWarps: Int?
    package var numStages: Int?
    /// Why it is not known what it needs.
    package var problem: String?
    /// Of its directory, in seconds since 1970; clamped.
    package let modified: Int64
    /// Of all its files, without those of entries that lie in it.
    package var bytes: UInt64
    /// Of those among them that no hit needs.
    package var irBytes: UInt64
    /// How often engines found it, as mounts count.
    package var hits: UInt64 = 0
    /// Seconds since 1970.
    package var lastHit: Int64?

    package init(path: [UInt8], kind: KernelEntry.Kind, modified: Int64, bytes: UInt64, irBytes: UInt64) {
        self.path = path
        self.kind = kind
        self.modified = Timestamp(seconds: modified).clamped.seconds
        self.bytes = bytes
        self.irBytes = irBytes
    }

    /// - Parameter now: seconds since 1970.
    package func age(at now: Int64) -> Age { Age(seconds: now.subtractingClamped(modified)) }

    /// For people: bytes that are no UTF-8 are replaced.
    package var pathText: String { String(decoding: path, as: UTF8.self) }

    /// Whether it is a folder's or reference's, or is that folder itself.
    package func lies(in place: String) -> Bool { path.isAtOrBelow(Array(place.utf8)) }
}
