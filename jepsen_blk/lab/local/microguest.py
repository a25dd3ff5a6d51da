"""A virtual machine of three instructions: does this kernel's KVM run guests at a usable speed?

Some kernels open /dev/kvm, accept every call and run ordinary guests some thousand times too slow, so
only running one tells. Run as `python3 -I -S microguest.py` in a process of its own, since the call that
runs the guest may hang; prints how long 100,000 iterations of a loop took, in ns.

Standard library only, and quick to start.
"""

import ctypes
import fcntl
import mmap
import os
import struct
import sys
import time

# Request numbers and layouts of <linux/kvm.h> on x86-64.
_KVM_CREATE_VM = 0xAE01
_KVM_GET_VCPU_MMAP_SIZE = 0xAE04
_KVM_CREATE_VCPU = 0xAE41
_KVM_SET_USER_MEMORY_REGION = 0x4020AE46
_KVM_SET_TSS_ADDR = 0xAE47
_KVM_RUN = 0xAE80
_KVM_SET_REGS = 0x4090AE82
_KVM_GET_SREGS = 0x8138AE83
_KVM_SET_SREGS = 0x4138AE84
_SREGS_BYTES = 0x138
_EXIT_HLT = 5

_MEMORY_BYTES = 0x2000
_CODE_ADDRESS = 0x1000
_TSS_ADDRESS = 0x7FFBD000
_ITERATIONS = 100_000
_CODE = b"\x66\xb9" + struct.pack("<I", _ITERATIONS) + b"\x66\x49\x75\xfc\xf4"
"""Real mode: mov ecx, 100000; dec ecx; jnz back; hlt."""


def loop_ns() -> int:
    """Run the loop in a guest and return its time in ns; OSError or RuntimeError when KVM does not do it."""
    kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    vm = fcntl.ioctl(kvm, _KVM_CREATE_VM, 0)
    fcntl.ioctl(vm, _KVM_SET_TSS_ADDR, _TSS_ADDRESS)
    memory = mmap.mmap(-1, _MEMORY_BYTES)
    memory[_CODE_ADDRESS : _CODE_ADDRESS + len(_CODE)] = _CODE
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    fcntl.ioctl(vm, _KVM_SET_USER_MEMORY_REGION, struct.pack("<IIQQQ", 0, 0, 0, _MEMORY_BYTES, address))

    cpu = fcntl.ioctl(vm, _KVM_CREATE_VCPU, 0)
    state = mmap.mmap(cpu, fcntl.ioctl(kvm, _KVM_GET_VCPU_MMAP_SIZE, 0))
    special = bytearray(_SREGS_BYTES)
    fcntl.ioctl(cpu, _KVM_GET_SREGS, special)
    struct.pack_into("<Q", special, 0, 0)  # cs.base
    struct.pack_into("<H", special, 12, 0)  # cs.selector
    fcntl.ioctl(cpu, _KVM_SET_SREGS, bytes(special))
    registers = struct.pack("<18Q", *([0] * 16), _CODE_ADDRESS, 2)  # rip; rflags: the bit that is always set
    fcntl.ioctl(cpu, _KVM_SET_REGS, registers)

    begin = time.monotonic_ns()
    fcntl.ioctl(cpu, _KVM_RUN, 0)
    took = time.monotonic_ns() - begin
    (reason,) = struct.unpack_from("<I", state, 8)
    if reason != _EXIT_HLT:
        raise RuntimeError(f"the guest ended with exit reason {reason}, not a halt")
    return took


def main() -> int:
    """Print the time, or say on stderr why there is none."""
    try:
        sys.stdout.write(f"{loop_ns()}\n")
    except (OSError, RuntimeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
