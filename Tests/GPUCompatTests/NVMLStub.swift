import Foundation
import MCFSTestSupport

/// A library that answers as NVIDIA's does, compiled for one test with what it should do wrong.
struct NVMLStub {
    private let folder = TemporaryDirectory()

    var path: String { folder.path }
    var library: String { "\(folder.path)/libnvidia-ml.so.1" }

    struct CompilerFailed: Error {}

    /// - Parameter definitions: macros of `source`, such as `COUNT=1`.
    init(_ definitions: String...) throws {
        let file = "\(folder.path)/stub.c"
        try Self.source.write(toFile: file, atomically: true, encoding: .utf8)
        let compiler = Process()
        compiler.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        compiler.arguments =
            ["cc", "-shared", "-fPIC", "-Wall", "-Werror", "-Wno-unused", "-o", library, "-DRELEASE=\"\(release)\""]
            + definitions.map { "-D\($0)" } + [file]
        try compiler.run()
        compiler.waitUntilExit()
        guard compiler.terminationStatus == 0 else { throw CompilerFailed() }
    }

    private var release: String { "\(folder.path)/release" }

    /// Ends what hangs.
    func endHang() throws { try Data().write(to: URL(fileURLWithPath: release)) }

    private static let source = #"""
        #include <stdint.h>
        #include <stdio.h>
        #include <stdlib.h>
        #include <string.h>
        #include <unistd.h>

        #ifndef COUNT
        #define COUNT 2
        #endif
        #ifndef CUDA
        #define CUDA 12080
        #endif
        #ifdef OLD_NAMES
        #define V2(name) name
        #else
        #define V2(name) name##_v2
        #endif

        typedef struct { int index, slot; } Device;
        static Device devices[64], instances[64][16];
        static int initialised;

        static void hang(void) { while (access(RELEASE, F_OK) != 0) usleep(1000); }

        static int put(char *buffer, unsigned length, const char *text) {
        #ifdef UNTERMINATED
            memset(buffer, 'X', length);
        #else
            snprintf(buffer, length, "%s", text);
        #endif
            return initialised ? 0 : 1;
        }

        /* Who unloads without nvmlShutdown ends here. */
        __attribute__((destructor)) static void unload(void) { if (initialised) abort(); }

        #ifndef NO_INIT
        int V2(nvmlInit)(void) {
        #ifdef HANG_INIT
            hang();
        #endif
        #ifdef INIT_STATUS
            return INIT_STATUS;
        #endif
            initialised++;
            return 0;
        }
        #endif
        int nvmlShutdown(void) { initialised--; return 0; }

        #ifdef INIT_STATUS
        #ifdef UNTERMINATED
        static char errors[4096];
        const char *nvmlErrorString(int status) { return memset(errors, 'E', sizeof errors); }
        #else
        const char *nvmlErrorString(int status) { return "Driver/library version mismatch"; }
        #endif
        #endif

        int nvmlSystemGetDriverVersion(char *buffer, unsigned length) { return put(buffer, length, "570.86.15"); }
        int V2(nvmlSystemGetCudaDriverVersion)(int *version) { *version = CUDA; return 0; }

        #ifndef NO_COUNT
        int V2(nvmlDeviceGetCount)(unsigned *count) { *count = COUNT; return initialised ? 0 : 1; }
        #endif
        int V2(nvmlDeviceGetHandleByIndex)(unsigned index, Device **device) {
        #ifdef HANG_DEVICE
            if (index == 1) hang();
        #endif
        #ifdef HANDLE_STATUS
            if (index == 1) return HANDLE_STATUS;
        #endif
            if (index >= 64) return 2;
            devices[index] = (Device){ index, -1 };
            *device = &devices[index];
            return 0;
        }

        #ifndef BARE
        int nvmlDeviceGetName(Device *device, char *buffer, unsigned length) {
            char text[64];
            snprintf(text, sizeof text, "NVIDIA H100 80GB HBM3%s", device->slot < 0 ? "" : " MIG 1g.10gb");
            return put(buffer, length, text);
        }
        int nvmlDeviceGetUUID(Device *device, char *buffer, unsigned length) {
            char text[64];
            snprintf(text, sizeof text, device->slot < 0 ? "GPU-%d" : "MIG-%d-%d", device->index, device->slot);
            return put(buffer, length, text);
        }
        int nvmlDeviceGetMemoryInfo(Device *device, uint64_t *memory) {
            memory[0] = device->slot < 0 ? 85520809984 : 10200547328;
            memory[1] = memory[2] = ~0ull;
            return 0;
        }
        int nvmlDeviceGetPciInfo_v3(Device *device, void *info) {
            struct { char legacy[16]; uint32_t domain, bus, device, id, subsystem; char bus_id[32]; } pci = {
                .domain = device->index ? 0x10000 : 0, .bus = 0x3b + device->index };
            memset(pci.bus_id, 'X', sizeof pci.bus_id);
            memcpy(info, &pci, sizeof pci);
            return 0;
        }
        #endif
        #ifndef NO_CAPABILITY
        int nvmlDeviceGetCudaComputeCapability(Device *device, int *major, int *minor) {
        #ifdef CAPABILITY
            *major = CAPABILITY; *minor = CAPABILITY;
        #else
            *major = device->slot < 0 ? 9 : 99; *minor = 0;
        #endif
            return 0;
        }
        #endif
        #ifdef MIG
        /* The first GPU has so many slots, every second one in use. */
        int nvmlDeviceGetMigMode(Device *device, unsigned *current, unsigned *pending) {
            *current = *pending = device->index == 0;
            return device->index == 0 ? 0 : 3;
        }
        int nvmlDeviceGetMaxMigDeviceCount(Device *device, unsigned *count) { *count = MIG; return 0; }
        int nvmlDeviceGetMigDeviceHandleByIndex(Device *device, unsigned slot, Device **instance) {
            if (slot >= 16) abort();
            if (slot % 2 == 0) return 6;
            instances[device->index][slot] = (Device){ device->index, slot };
            *instance = &instances[device->index][slot];
            return 0;
        }
        #endif
        """#
}
