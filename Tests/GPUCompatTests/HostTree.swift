import Foundation
import MCFSTestSupport

@testable import GPUCompat

/// Files of /proc and /sys below a folder that goes with this value.
struct HostTree {
    private let folder = TemporaryDirectory()

    var path: String { folder.path }
    var files: SystemFiles { SystemFiles(root: path) }

    func write(_ path: String, _ text: String) throws {
        try write(path, Data(text.utf8))
    }

    func write(_ path: String, _ data: Data) throws {
        let url = URL(fileURLWithPath: self.path).appending(path: path)
        try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
        try data.write(to: url)
    }

    /// A node of KFD's topology: what stands in its `properties`, less or more than a sample has.
    func writeNode(_ node: Int, _ properties: String, _ changes: [String: String?] = [:]) throws {
        let lines = properties.split(separator: "\n").map { line in line.split(separator: " ").map(String.init) }
        let kept = lines.compactMap { line -> String? in
            guard let change = changes[line[0]] else { return line.joined(separator: " ") }
            return change.map { "\(line[0]) \($0)" }
        }
        try write("\(Self.nodes)/\(node)/properties", kept.joined(separator: "\n") + "\n")
    }

    static let nodes = "sys/class/kfd/kfd/topology/nodes"
}

/// `properties` of nodes as ROCm/k8s-device-plugin keeps them in `testdata/`.
enum KFDSample {
    static let cpu = """
        cpu_cores_count 64
        simd_count 0
        mem_banks_count 1
        wave_front_size 0
        gfx_target_version 0
        vendor_id 0
        device_id 0
        location_id 0
        domain 0
        drm_render_minor 0
        """

    /// topo-mi210-xgmi-pcie, node 3.
    static let mi210 = """
        cpu_cores_count 0
        simd_count 416
        mem_banks_count 1
        caches_count 217
        simd_id_base 2147487856
        max_waves_per_simd 8
        wave_front_size 64
        gfx_target_version 90010
        vendor_id 4098
        device_id 29711
        location_id 17152
        domain 0
        drm_render_minor 129
        hive_id 12609507387757274807
        local_mem_size 0
        fw_version 92
        capability 746037888
        debug_prop 470
        unique_id 5847760019078012339
        num_xcc 1
        max_engine_clk_ccompute 2450
        """

    /// topo-mi300-cpx, node 2: the first of eight partitions of a card.
    static let mi300x = """
        cpu_cores_count 0
        simd_count 152
        mem_banks_count 1
        simd_id_base 2147488064
        wave_front_size 64
        gfx_target_version 90402
        vendor_id 4098
        device_id 29857
        location_id 1280
        domain 0
        drm_render_minor 128
        hive_id 15188982192727901047
        local_mem_size 0
        fw_version 177
        capability 2893521536
        unique_id 16404946649897475633
        num_xcc 1
        max_engine_clk_ccompute 2750
        """

    /// topology-parsing, node 1: a kernel that had no gfx_target_version yet.
    static let vega10 = """
        cpu_cores_count 0
        simd_count 256
        mem_banks_count 1
        wave_front_size 64
        vendor_id 4098
        device_id 26720
        location_id 6400
        drm_render_minor 128
        local_mem_size 17163091968
        fw_version 392
        capability 8832
        unique_id 14073402507705256556
        """
}
