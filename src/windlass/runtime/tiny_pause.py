"""The small program that holds a PID namespace for several containers: process 1, which reaps orphans and never ends.

Kubernetes brings an image for this (registry.k8s.io/pause). Ours is 60 bytes of machine code, made as `tiny_init`'s is.
It ignores SIGCHLD, so the kernel reaps whatever ends below it, and sleeps. Process 1 of a namespace gets no signal from
inside of it that it does not catch, so no container can end it; from outside SIGKILL does.
"""

from __future__ import annotations

from typing import Final

from windlass.runtime.tiny_elf import Program

_X86_64: Final = """
4883ec20              _start: sub     rsp, 32                 # struct sigaction
4889e6                        mov     rsi, rsp
31c0                          xor     eax, eax
48894608                      mov     [rsi+8], rax            # no flags, no restorer, no mask
48894610                      mov     [rsi+16], rax
48894618                      mov     [rsi+24], rax
ffc0                          inc     eax                     # SIG_IGN
488906                        mov     [rsi], rax
bf11000000                    mov     edi, 17                 # SIGCHLD
31d2                          xor     edx, edx
41ba08000000                  mov     r10d, 8
b80d000000                    mov     eax, 13                 # rt_sigaction
0f05                          syscall
b822000000            sleep:  mov     eax, 34                 # pause
0f05                          syscall
ebf7                          jmp     sleep
"""

PROGRAM: Final = Program("pause", {"x86_64": _X86_64})
