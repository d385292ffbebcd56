internal import CFUSE
internal import MountFS

/// Fills a buffer with directory entries in the kernel's format.
struct Listing {
    let request: OpaquePointer
    let buffer: UnsafeMutableRawBufferPointer
    /// READDIRPLUS: each entry counts as looked up.
    let withAttributes: Bool
    let context: ServingContext
    private(set) var used = 0

    init(
        request: OpaquePointer, buffer: UnsafeMutableRawBufferPointer, withAttributes: Bool, _ context: ServingContext
    ) {
        self.context = context
        self.request = request
        self.buffer = buffer
        self.withAttributes = withAttributes
    }

    /// - Returns: false where there is no room.
    mutating func add(_ name: UnsafeRawBufferPointer, _ entry: MountFS.DirectoryEntry) -> Bool {
        let rest = UnsafeMutableRawBufferPointer(rebasing: buffer[used...])
        let count = withUnsafeTemporaryAllocation(of: CChar.self, capacity: name.count + 1) { terminated in
            UnsafeMutableRawBufferPointer(terminated).copyMemory(from: name)
            terminated[name.count] = 0
            let destination = rest.baseAddress?.assumingMemoryBound(to: CChar.self)
            let position = off_t(clamping: entry.nextPosition)
            if withAttributes {
                var parameters = fuse_entry_param(
                    entry.attributes, validity: context.validity(of: entry.attributes, inListing: true))
                // The kernel has "." and "..": they are no look-up.
                if entry.isDot { parameters.ino = 0 }
                return fuse_add_direntry_plus(
                    request, destination, rest.count, terminated.baseAddress, &parameters, position)
            }
            var status = stat(entry.attributes)
            return fuse_add_direntry(request, destination, rest.count, terminated.baseAddress, &status, position)
        }
        guard count <= rest.count else { return false }
        used += count
        return true
    }
}
