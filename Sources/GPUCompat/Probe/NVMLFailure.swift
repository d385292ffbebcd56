internal import Glibc

/// A status of NVML's that is not success.
struct NVMLFailure {
    static let noPermission: CInt = 4

    private let status: CInt
    private let text: String

    init(_ status: CInt, _ library: borrowing NVMLLibrary) {
        typealias Function = @convention(c) (CInt) -> UnsafePointer<CChar>?
        self.status = status
        let name = library.function("nvmlErrorString", as: Function.self)?(status)
        text =
            name.map {
                String(decoding: UnsafeRawBufferPointer(start: $0, count: strnlen($0, 128)), as: UTF8.self).asName
            } ?? ""
    }

    /// `error 18 (Driver/library version mismatch): …; reboot`.
    var reason: String {
        let name = text.isEmpty ? "" : " (\(text))"
        return "error \(status)\(name)\(Self.remedies[status].map { ": \($0)" } ?? "")"
    }

    var message: String { "NVML is there but reports \(reason)" }

    static func missing(_ function: String) -> String {
        "NVML is there but lacks \(function); it is not NVIDIA's, or far too old"
    }

    private static let remedies: [CInt: String] = [
        noPermission: "this process may not use the driver; look at the permissions of /dev/nvidiactl",
        9: "no NVIDIA driver is loaded; load it with modprobe nvidia",
        12: "the driver's libraries are incomplete; in a container, ask for the capability utility",
        15: "the GPU has fallen off the bus; look into dmesg and reset or replace it",
        16: "the GPU wants a reset; nvidia-smi --gpu-reset",
        18: "the driver was upgraded and the kernel module is still the old one; reboot",
    ]
}
