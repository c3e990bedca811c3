# Cross compiling with `zig cc`, a Clang that brings the C libraries of many targets: pip install ziglang (not a dependency).
# ZIG_TARGET: architecture-system-abi, as CMakePresets.json gives it. Android's and iOS's C libraries it does not bring:
# there the library gets along without one. Apps are better served by the NDK's toolchain file and Xcode (README.md).
find_program(ZIG NAMES zig python-zig REQUIRED)
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES ZIG ZIG_TARGET)

string(REGEX MATCH "^[^-]+" CMAKE_SYSTEM_PROCESSOR "${ZIG_TARGET}")
set(CMAKE_SYSTEM_NAME Linux) # Android too: CMake's own rules for it ask for the NDK
if(ZIG_TARGET MATCHES "-(macos|ios)")
  set(CMAKE_SYSTEM_NAME Darwin)
endif()
set(CMAKE_C_COMPILER ${ZIG} cc -target ${ZIG_TARGET})
if(ZIG_TARGET MATCHES "-(android|ios)")
  set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
  set(FREESTANDING ${CMAKE_CURRENT_LIST_DIR}/freestanding)
  set(CMAKE_C_FLAGS_INIT "-ffreestanding -isystem ${FREESTANDING}")
  set(CMAKE_C_STANDARD_LIBRARIES "-nostdlib -lcompiler_rt")
endif()
if(ZIG_TARGET MATCHES "-android")
  set(CMAKE_SHARED_LINKER_FLAGS_INIT "-Wl,-z,max-page-size=16384")
endif()
