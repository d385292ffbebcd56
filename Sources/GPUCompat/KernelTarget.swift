/// What a kernel says that it needs.
package struct KernelTarget: Hashable, Sendable {
    /// How the kernel is stored, which decides what else than its own architecture can run it.
    package enum Form: Hashable, Sendable {
        /// An entry of Triton's cache: Triton looks for entries of exactly its GPU, and takes no others.
        case tritonEntry
        /// NVIDIA machine code.
        case cubin
        /// NVIDIA's intermediate text, which the driver compiles when it is loaded.
        case ptx(isa: PTXVersion)
        /// AMD machine code (`.hsaco`).
        /// - genericVersion: of a generic processor's, from its e_flags; nil if not known.
        case codeObject(genericVersion: Int?)
    }

    package var architecture: Architecture
    package var form: Form
    /// Threads in a warp (wavefront) that it was compiled for; nil if not recorded.
    package var warpSize: Int?

    package init(architecture: Architecture, form: Form, warpSize: Int? = nil) {
        self.architecture = architecture
        self.form = form
        self.warpSize = warpSize
    }
}

/// The version of the language in a `.ptx` file, from its `.version` line.
package struct PTXVersion: Hashable, Sendable {
    package let major: Int
    package let minor: Int

    package init(major: Int, minor: Int) {
        self.major = major
        self.minor = minor
    }

    /// Reads `8.4`.
    package init?(_ text: some StringProtocol) {
        guard let (major, minor) = twoNumbers(text) else { return nil }
        self.init(major: major, minor: minor)
    }
}

extension PTXVersion: Comparable, CustomStringConvertible {
    package static func < (one: Self, other: Self) -> Bool { (one.major, one.minor) < (other.major, other.minor) }

    package var description: String { "\(major).\(minor)" }
}
