package import GPUCompat

/// What a cubin was built for: ELF machine 190 (EM_CUDA), and its e_flags in one of two forms.
///
/// | form | written by | number | suffix |
/// |---|---|---|---|
/// | OSABI 0x33, ABI 7 | ptxas up to 12.9, below sm_100 | bits 0–7 | `a`: bit 11; no others |
/// | OSABI 0x41, ABI 8 | 12.8 and 12.9 from sm_100 on, 13 always | bits 8–15 | `a`: bit 3, set by 12 only |
///
/// In the second form a cleared bit 3 tells nothing: ptxas 13 never sets it, and nothing marks `f`. The section
/// `.note.nv.tkinfo` has the command line with the full name. Checked with ptxas 12.8.93, 12.9.86 and 13.5.37.
package struct CubinHeader: Hashable, Sendable {
    /// 10 × major + minor.
    package let number: Int
    /// nil if not known: the header does not say, and there is no more of the file, or no command line in it.
    package let suffix: CUDAArchitecture.Suffix?

    package static let machine: UInt16 = 190

    /// - Parameter bytes: the first 64 bytes, or the whole file: that may say more.
    /// - Returns: nil for anything but the beginning of a cubin of a known form.
    package init?(_ bytes: [UInt8]) {
        guard let elf = ELFHeader(bytes), elf.machine == Self.machine else { return nil }
        switch (elf.osABI, elf.abiVersion) {
        case (0x33, 7):
            number = Int(elf.flags & 0xff)
            suffix = elf.flags & 0x800 != 0 ? .a : CUDAArchitecture.Suffix.none
        case (0x41, 8):
            number = Int(elf.flags >> 8 & 0xff)
            suffix =
                elf.flags & 0x8 != 0 ? .a : Self.suffix(ofNumber: number, in: elf.section(".note.nv.tkinfo", in: bytes))
        default: return nil
        }
        guard number >= 10 else { return nil }
    }

    /// Without a known suffix that of a plain cubin, which runs on all GPUs that any suffix allows.
    package var architecture: CUDAArchitecture { CUDAArchitecture(number: number, suffix: suffix ?? .none) }

    /// From the note's texts, `-v -lineinfo -arch sm_90a`.
    private static func suffix(ofNumber number: Int, in note: ArraySlice<UInt8>?) -> CUDAArchitecture.Suffix? {
        var isValue = false
        var suffixes: Set<CUDAArchitecture.Suffix> = []
        for word in (note ?? []).split(whereSeparator: { $0 <= 0x20 || $0 == UInt8(ascii: "=") }) {
            if isValue, let named = CUDAArchitecture(String(decoding: word.prefix(20), as: UTF8.self)),
                named.number == number
            {
                suffixes.insert(named.suffix)
            }
            isValue = word.elementsEqual("-arch".utf8) || word.elementsEqual("--gpu-name".utf8)
        }
        return suffixes.count == 1 ? suffixes.first : nil
    }
}
