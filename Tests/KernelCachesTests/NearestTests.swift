import Catalog
import Testing

@testable import KernelCaches

@Suite("What someone may have meant")
struct NearestTests {
    @Test("entries near a name that is not there")
    func nearest() throws {
        let hash = "172744c1c71bc879221e4c421a333788affecaa14a0170f8110439f54505cc77"
        let keys = TritonFile.keys(ofHash: hash)
        let other = KernelSurveyTests.other
        let tree = try makeTree(["a/\(keys[2])/add_kernel.json", "a/\(other)/matmul_kernel.json", "a/add_x/y"])
        let survey = KernelSurvey(tree)
        let descriptions = survey.entries.map { entry -> KernelDescription? in
            let name = tree.withName(of: entry.directory) { Array($0) }
            let kernel = name == Array(other.utf8) ? "matmul_kernel" : "add_kernel"
            return KernelDescription(.triton, directoryName: name, metadata: Array(#"{"name": "\#(kernel)"}"#.utf8))
        }
        let near = { (name: String) in
            survey.entries(near: Array(name.utf8), descriptions).compactMap { descriptions[$0]?.name }
        }
        #expect(near(hash) == ["add_kernel"])
        #expect(near(keys[1]) == ["add_kernel"])
        #expect(near("c4tujq") == ["add_kernel"])
        #expect(near("2lfh2qg6") == ["matmul_kernel"])
        #expect(near("matmul") == ["matmul_kernel"])
        #expect(near("Add_Kernel") == ["add_kernel"])
        #expect(near("_kernel").count == 2)
        #expect(near("softmax") == [])
        #expect(near("") == [])
        #expect(near(String(repeating: "Z", count: 64)) == [])
        #expect(survey.entries(near: Array("_kernel".utf8), descriptions, limit: 1).count == 1)
        let unknown = [KernelDescription?](repeating: nil, count: survey.entries.count)
        #expect(survey.entries(near: [0xff, 0xfe], unknown) == [])
        #expect(survey.entries(near: Array("C4TU".utf8), unknown).count == 1)
    }
}
