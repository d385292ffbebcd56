internal import MCFSCore

/// Weight files whose first bytes say where their tensors lie.
package enum ModelFormat: Sendable, CaseIterable {
    case safetensors
    case gguf

    /// By the end of a file's name.
    package init?(fileName: some BidirectionalCollection<UInt8>) {
        func ends(_ suffix: StaticString) -> Bool {
            suffix.withUTF8Buffer { fileName.count > $0.count && fileName.suffix($0.count).elementsEqual($0) }
        }
        if ends(".safetensors") { self = .safetensors } else if ends(".gguf") { self = .gguf } else { return nil }
    }

    /// What the first bytes of a file say.
    package enum Reading: Sendable, Equatable {
        case layout(TensorLayout)
        /// Ask again with so many bytes: more than were given, at most the file's size and `headerBytesMax`.
        case needs(UInt64)
        /// They are not of this format, or not worth a layout.
        case unknown
    }

    /// Longer headers are not read, in bytes.
    package static let headerBytesMax: UInt64 = 32 << 20

    /// The bytes to begin with.
    package func firstBytes(fileSize: UInt64) -> UInt64 { min(fileSize, self == .safetensors ? 8 : 64 << 10) }

    /// Reads a header from the first bytes of a file of `fileSize` bytes. Takes time in proportion to them.
    package func read(_ prefix: UnsafeRawBufferPointer, fileSize: UInt64) -> Reading {
        let reading =
            switch self {
            case .safetensors: SafetensorsHeader.read(prefix, fileSize: fileSize)
            case .gguf: GGUFHeader.read(prefix, fileSize: fileSize)
            }
        guard case .needs(let count) = reading else { return reading }
        let bounded = min(count, fileSize, Self.headerBytesMax)
        return bounded > prefix.count ? .needs(bounded) : .unknown
    }
}
