/// What NVIDIA publishes about which code runs where.
enum CUDATables {
    /// CUDA 12.8 and 12.9 called sm_101 what CUDA 13 calls sm_110; `ptxas` 13 refuses the old name.
    static let renamed = [101: 110]

    /// Architectures of Tegra. CUDA C++ Programming Guide, "Binary Compatibility": not supported between desktop and
    /// Tegra. Since nobody tested each pair, such a cubin is neither said to run nor hidden.
    static let tegra: Set = [72, 87, 110]

    /// Within which PTX and cubins with the suffix `f` are compatible. `ptxas --help` 13.4, tried for each pair.
    static let families: [Set<Int>] = [[100, 103, 107], [110], [120, 121]]

    /// Since which CUDA the driver compiles which PTX. cuda-python, `cuda/bindings/utils/_ptx_utils.py`; 9.2 and 9.3 by
    /// the pattern, 9.4 as `ptxas` 13.4 writes it. Both columns ascend.
    static let ptxVersions: [(isa: PTXVersion, cuda: CUDAVersion)] = [
        ("6.3", "10.0"), ("6.4", "10.1"), ("6.5", "10.2"),
        ("7.0", "11.0"), ("7.1", "11.1"), ("7.2", "11.2"), ("7.3", "11.3"), ("7.4", "11.4"),
        ("7.5", "11.5"), ("7.6", "11.6"), ("7.7", "11.7"), ("7.8", "11.8"),
        ("8.0", "12.0"), ("8.1", "12.1"), ("8.2", "12.2"), ("8.3", "12.3"), ("8.4", "12.4"),
        ("8.5", "12.5"), ("8.6", "12.7"), ("8.7", "12.8"), ("8.8", "12.9"),
        ("9.0", "13.0"), ("9.1", "13.1"), ("9.2", "13.2"), ("9.3", "13.3"), ("9.4", "13.4"),
    ].compactMap { row in
        guard let isa = PTXVersion(row.0), let cuda = CUDAVersion(row.1) else { return nil }
        return (isa, cuda)
    }

    /// From which branch of the driver on its CUDA has which major version.
    /// docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html. Ascends.
    static let driverBranches: [(driver: Int, cudaMajor: Int)] = [(450, 11), (525, 12), (580, 13)]

    /// In the names of GPUs that NVIDIA's forward compatibility package (`cuda-compat`, a newer driver library in a
    /// container) refuses, with error 804: it is for data centers, some workstations and Jetson.
    /// docs.nvidia.com/deploy/cuda-compatibility/forward-compatibility.html.
    static let withoutForwardCompatibility = ["GeForce", "TITAN"]
}
