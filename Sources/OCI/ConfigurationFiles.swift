internal import Glibc
internal import MCFSCore

/// Longest configuration file that is read, in bytes.
private let configurationBytesMax = 4 << 20

/// The text of a configuration file; nil where there is none.
/// - Throws: `configuration` for one that cannot be read.
func readConfiguration(_ path: String) throws(MCFSError) -> String? {
    let descriptor: OwnedDescriptor
    do {
        // Not blocking: a FIFO in place of the file must not hold a mount up.
        descriptor = try OwnedDescriptor.open(path, O_RDONLY | O_NONBLOCK)
    } catch {
        if error == .noEntry || error.rawValue == ENOTDIR { return nil }
        throw MCFSError(
            .configuration, "cannot read \(path): \(error); correct its permissions or remove it", cause: error)
    }
    do {
        let status = try descriptor.status()
        guard status.st_mode & S_IFMT == S_IFREG, status.st_size <= configurationBytesMax else {
            throw MCFSError(.configuration, "\(path) is not a file of at most \(configurationBytesMax) bytes")
        }
        var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
        let count = try bytes.withUnsafeMutableBytes { buffer -> Result<Int, Errno> in
            do throws(Errno) { return .success(try descriptor.read(into: buffer, at: 0)) } catch {
                return .failure(error)
            }
        }.get()
        return String(decoding: bytes.prefix(count), as: UTF8.self)
    } catch let error as Errno {
        throw MCFSError(.configuration, "cannot read \(path): \(error)", cause: error)
    } catch let error as MCFSError {
        throw error
    } catch {
        throw MCFSError(.configuration, "cannot read \(path)")
    }
}

/// The names in a directory, sorted; empty where it cannot be read.
func directoryListing(_ path: String) -> [String] {
    guard let directory = opendir(path) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
        let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
            String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
        if name != ".", name != ".." { names.append(name) }
    }
    return names.sorted()
}
