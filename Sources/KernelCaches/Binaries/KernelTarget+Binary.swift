package import GPUCompat

extension KernelTarget {
    /// What a binary's ELF header says, and for a cubin the note of the compiler, where all of the file is given.
    ///
    /// - Returns: nil for what is neither a cubin nor a code object.
    package init?(binary bytes: [UInt8]) {
        if let cubin = CubinHeader(bytes) {
            self.init(architecture: .cuda(cubin.architecture), form: .cubin)
        } else if let object = CodeObjectHeader(bytes) {
            self.init(
                architecture: .gfx(object.architecture), form: .codeObject(genericVersion: object.genericVersion))
        } else {
            return nil
        }
    }
}
