// swift-tools-version: 6.2

import PackageDescription

let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .treatAllWarnings(as: .error),
]

let argumentParser: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")
let crypto: Target.Dependency = .product(name: "Crypto", package: "swift-crypto")
let flyingFox: Target.Dependency = .product(name: "FlyingFox", package: "FlyingFox")
let grdb: Target.Dependency = .product(name: "GRDB", package: "GRDB.swift")
let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let tomlKit: Target.Dependency = .product(name: "TOMLKit", package: "TOMLKit")
let yams: Target.Dependency = .product(name: "Yams", package: "Yams")

/// A module and its tests. What a module may import of ours is checked by scripts/check-layers.
func module(
    _ name: String, ours: [String], libraries: [Target.Dependency] = [], onlyForTests: [String] = []
) -> [Target] {
    let dependencies = ours.map { Target.Dependency.target(name: $0) } + libraries
    let forTests = Set(ours + onlyForTests + [name, "MCFSCore", "MCFSTestSupport"]).sorted().map {
        Target.Dependency.target(name: $0)
    }
    return [
        .target(name: name, dependencies: dependencies, swiftSettings: settings),
        .testTarget(name: "\(name)Tests", dependencies: forTests + libraries, swiftSettings: settings),
    ]
}

let package = Package(
    name: "mcfs",
    products: [
        .executable(name: "mcfs", targets: ["mcfs"])
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-crypto", from: "4.5.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/groue/GRDB.swift", from: "7.10.0"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
        .package(url: "https://github.com/LebJe/TOMLKit", from: "0.6.0"),
        .package(url: "https://github.com/swhitty/FlyingFox", from: "0.27.1"),
    ],
    targets: [
        // System libraries: each has one importer.
        .systemLibrary(name: "CCrypto", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CCurl", pkgConfig: "libcurl", providers: [.apt(["libcurl4-openssl-dev"])]),
        .systemLibrary(name: "CFUSE", pkgConfig: "fuse3", providers: [.apt(["libfuse3-dev"])]),
        .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
        .systemLibrary(name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"])]),
        .target(name: "CLinux"),

        .target(name: "MCFSTestSupport", dependencies: ["MCFSCore"], path: "Tests/Support", swiftSettings: settings),

        .executableTarget(
            name: "mcfs",
            dependencies: [
                "ControlAPI", "Daemon", "GPUCompat", "Inventory", "KernelCaches", "MCFSCore", "OCI", argumentParser,
                logging,
            ],
            swiftSettings: settings),
        .testTarget(
            name: "CLITests",
            dependencies: [
                "ControlAPI", "Daemon", "GPUCompat", "Inventory", "KernelCaches", "MCFSCore", "MCFSTestSupport", "mcfs",
                argumentParser,
            ],
            swiftSettings: settings),
    ]
        + module("Catalog", ours: ["LocalDatabase", "MCFSCore"], libraries: [crypto, grdb])
        + module("ChunkStore", ours: ["CCrypto", "CLinux", "MCFSCore"], libraries: [logging])
        + module("ControlAPI", ours: ["MCFSCore", "Transport"])
        + module(
            "Daemon",
            ours: [
                "CLinux", "Catalog", "ChunkStore", "ControlAPI", "FUSEServer", "GPUCompat", "KernelCaches", "MCFSCore",
                "MountFS", "OCI", "Origins", "Transport", "Upper",
            ], libraries: [flyingFox, logging, yams])
        + module(
            "FUSEServer", ours: ["CFUSE", "ChunkStore", "CLinux", "MCFSCore", "MountFS", "Upper"], libraries: [logging],
            onlyForTests: ["Catalog"])
        + module("GPUCompat", ours: ["MCFSCore"])
        + module(
            "Inventory", ours: ["CLinux", "Catalog", "GPUCompat", "KernelCaches", "LocalDatabase", "MCFSCore"],
            libraries: [grdb])
        + module("KernelCaches", ours: ["Catalog", "GPUCompat", "MCFSCore"])
        + module("LocalDatabase", ours: ["MCFSCore"], libraries: [grdb])
        + module("MCFSCore", ours: ["CLinux"], libraries: [crypto])
        + module("ModelFormats", ours: ["MCFSCore"])
        + module("MountFS", ours: ["Catalog", "ChunkStore", "CLinux", "MCFSCore", "ModelFormats", "Upper"])
        + module("OCI", ours: ["CZlib", "CZstd", "MCFSCore", "Transport"], libraries: [crypto, logging, tomlKit])
        + module("Origins", ours: ["Catalog", "MCFSCore", "OCI", "Transport"], libraries: [crypto, logging])
        + module("Transport", ours: ["CCurl", "MCFSCore"], libraries: [crypto, logging])
        + module("Upper", ours: ["CLinux", "MCFSCore"]),
    swiftLanguageModes: [.v6]
)
