internal import Glibc

/// NVIDIA's management library, loaded while this lives. The driver brings it; nothing of it is needed to build mcfs.
/// Signatures: nvidia-ml-py. Calls may block for as long as the driver does.
struct NVMLLibrary: ~Copyable {
    static let name = "libnvidia-ml.so.1"

    typealias Device = UnsafeMutableRawPointer

    enum Loading: ~Copyable {
        case loaded(NVMLLibrary)
        case absent
        case broken(String)
    }

    private typealias Plain = @convention(c) () -> CInt

    private let handle: UnsafeMutableRawPointer
    private var isInitialised = false

    private init(handle: UnsafeMutableRawPointer) { self.handle = handle }

    // Unloaded, so that the next one is what an upgrade of the driver has put in its place.
    deinit {
        if isInitialised { _ = function("nvmlShutdown", as: Plain.self)?() }
        dlclose(handle)
    }

    /// - Returns: NVML's status; nil where the function is missing.
    mutating func initialise() -> CInt? {
        let status = function("nvmlInit_v2", "nvmlInit", as: Plain.self)?()
        isInitialised = status == 0
        return status
    }

    /// The name alone, which the dynamic linker looks for, unless there is another root; then the folders that the
    /// linker does not know: NixOS, GKE, the GPU operator's containers, WSL.
    static func places(_ files: SystemFiles) -> [String] {
        let folders = [
            "run/opengl-driver/lib", "usr/local/nvidia/lib64", "run/nvidia/driver/usr/lib/x86_64-linux-gnu",
            "run/nvidia/driver/usr/lib64", "usr/lib/wsl/lib",
        ]
        let system = ["usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib64"]
        let isHost = files.root == "/"
        let found = (isHost ? folders : system + folders).map { "\($0)/\(name)" }.filter(files.exists)
        return (isHost ? [name] : []) + found.map(files.path)
    }

    /// Loads the first of `places` that there is.
    static func load(_ places: [String]) -> Loading {
        for place in places {
            if let handle = dlopen(place, RTLD_LAZY | RTLD_LOCAL) { return .loaded(NVMLLibrary(handle: handle)) }
            let message = dlerror().map { String(cString: $0) } ?? "no reason given"
            // Another library that this one needs may be missing as well: then the message begins with its name.
            if !message.hasPrefix("\(place): cannot open shared object file: No such file") { return .broken(message) }
        }
        return .absent
    }

    /// The first of the names that this version of the driver has.
    /// - Parameter type: of a C function with the signature that all of them have.
    func function<Function>(_ names: String..., as type: Function.Type) -> Function? {
        for name in names {
            if let symbol = dlsym(handle, name) { return unsafeBitCast(symbol, to: type) }
        }
        return nil
    }

    /// A function that fills a buffer with a text. nil where it is missing, fails, or gives nothing. An unterminated
    /// text ends with its buffer.
    func text(_ name: String, of device: Device? = nil) -> String? {
        var buffer = [CChar](repeating: 0, count: 96)
        let size = CUnsignedInt(buffer.count)
        let status: CInt?
        if let device {
            typealias Function = @convention(c) (Device, UnsafeMutablePointer<CChar>, CUnsignedInt) -> CInt
            status = function(name, as: Function.self)?(device, &buffer, size)
        } else {
            typealias Function = @convention(c) (UnsafeMutablePointer<CChar>, CUnsignedInt) -> CInt
            status = function(name, as: Function.self)?(&buffer, size)
        }
        let text = String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self).asName
        return status == 0 && !text.isEmpty ? text : nil
    }

    /// A function that gives one number of a device.
    func number(_ name: String, of device: Device) -> CUnsignedInt? {
        typealias Function = @convention(c) (Device, UnsafeMutablePointer<CUnsignedInt>) -> CInt
        var number: CUnsignedInt = 0
        return function(name, as: Function.self)?(device, &number) == 0 ? number : nil
    }

    /// A function that gives two numbers of a device.
    func numbers(_ name: String, of device: Device) -> (CInt, CInt)? {
        typealias Function = @convention(c) (Device, UnsafeMutablePointer<CInt>, UnsafeMutablePointer<CInt>) -> CInt
        var (first, second): (CInt, CInt) = (0, 0)
        return function(name, as: Function.self)?(device, &first, &second) == 0 ? (first, second) : nil
    }

    /// A function that fills a structure of at most 256 bytes.
    func structure(_ name: String, of device: Device) -> [UInt8]? {
        typealias Function = @convention(c) (Device, UnsafeMutableRawPointer) -> CInt
        var words = [UInt64](repeating: 0, count: 32)
        guard function(name, as: Function.self)?(device, &words) == 0 else { return nil }
        return words.withUnsafeBytes { Array($0) }
    }
}
