internal import Glibc
package import MCFSCore

/// What a directory occupies on disk.
package enum DirectoryUsage {
    /// Bytes in blocks, as du(1) counts; what cannot be read counts nothing.
    package static func bytes(_ path: String) -> UInt64 {
        walk(path)
    }

    /// Of a directory that may have something mounted over it; `hidden`: a name in it that does not count.
    package static func bytes(of directory: OwnedDescriptor, but hidden: String) -> UInt64 {
        walk("/proc/self/fd/\(directory.rawValue)", but: hidden)
    }

    private static func walk(_ path: String, but hidden: String? = nil) -> UInt64 {
        var total: UInt64 = 0
        var pending = [path]
        while let directory = pending.popLast() {
            guard let stream = opendir(directory) else { continue }
            defer { closedir(stream) }
            while let entry = readdir(stream) {
                let name = withUnsafePointer(to: &entry.pointee.d_name) {
                    $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
                }
                if name == "." || name == ".." || name == hidden && directory == path { continue }
                var status = stat()
                guard lstat(directory + "/" + name, &status) == 0 else { continue }
                if status.st_mode & S_IFMT == S_IFDIR {
                    pending.append(directory + "/" + name)
                } else {
                    total += UInt64(status.st_blocks) * 512
                }
            }
        }
        return total
    }
}
