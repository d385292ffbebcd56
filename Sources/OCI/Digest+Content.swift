internal import Crypto
internal import MCFSCore

extension MCFSCore.Digest {
    static func of(_ bytes: [UInt8], _ algorithm: Algorithm) -> MCFSCore.Digest {
        switch algorithm {
        case .sha256: MCFSCore.Digest(.sha256, SHA256.hash(data: bytes))
        case .sha512: MCFSCore.Digest(.sha512, SHA512.hash(data: bytes))
        }
    }
}
