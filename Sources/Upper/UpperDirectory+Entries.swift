internal import CLinux
internal import Glibc
package import MCFSCore

/// What is in a directory of the upper's disk.
extension UpperDirectory {
    package struct Entry {
        package var name: [UInt8]
        package var inode: UInt64
        /// `DT_DIR` and so on; `DT_UNKNOWN` where the disk does not say.
        package var type: UInt8
    }

    static func entries(_ directory: OwnedDescriptor) throws(Errno) -> [Entry] {
        // A description of its own: the position belongs to it.
        let descriptor = try retryingOnInterrupt {
            mcfs_openat(directory.rawValue, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0)
        }
        guard let stream = fdopendir(descriptor) else {
            let error = Errno.current
            Glibc.close(descriptor)
            throw error
        }
        defer { closedir(stream) }
        var entries: [Entry] = []
        while true {
            errno = 0
            guard let entry = readdir(stream) else {
                if errno != 0 { throw .current }
                return entries
            }
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { Array($0.prefix { $0 != 0 }) }
            if name != [UInt8(ascii: ".")] && name != Array("..".utf8) {
                entries.append(Entry(name: name, inode: UInt64(entry.pointee.d_ino), type: entry.pointee.d_type))
            }
        }
    }

    package func entries(of folder: UpperFolder) throws(Errno) -> [Entry] {
        guard folder.isOnDisk else { return [] }
        let all = try Self.entries(try descriptor(of: folder))
        return folder === root ? all.filter { $0.name != UpperLayout.hiddenName } : all
    }
}
