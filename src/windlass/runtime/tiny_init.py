"""The small program that `--init` puts before a container's own: process 1, which passes signals on and reaps orphans.

dockerd brings a C program for this (docker-init, which is tini). Ours is 700 bytes of machine code in a static
executable, made here from the listing below, so that nothing has to be installed: the engine writes it to a file once
and binds that to /sbin/docker-init of a container. It opens nothing, and holds nothing of the host.

    docker-init [--] PROGRAM ARGUMENT …

    block all signals ─ fork ─┬─ child: own process group, in the foreground of the terminal if there is one;
                              │         unblock; execve, by PATH if the name has no slash (127: not found, 126: other)
                              └─ wait for a signal ─ SIGCHLD: reap all; was it the child? exit as it did, 128 + signal
                                                   └ any other: send it to the child

Signals are blocked and waited for, never caught: process 1 gets only signals that it asks for, and a blocked one counts
as asked for. For machine types without a listing, `executable` says that there is none.
"""

from __future__ import annotations

from typing import Final

from windlass.runtime.tiny_elf import Program

# Left: the bytes. Right: what they are, for GNU as (Intel syntax). A test assembles the right and compares.
_X86_64: Final = """
                      # rbx = the child's pid   r12 = its argv   r13 = envp   r14 = its name   r15 = errno to report
488b0c24              _start: mov     rcx, [rsp]              # argc
4c8d642408                    lea     r12, [rsp+8]            # argv
4d8d6ccc08                    lea     r13, [r12+rcx*8+8]      # envp
4983c408                      add     r12, 8                  # without our own name
498b0424                      mov     rax, [r12]
4885c0                        test    rax, rax
0f842b020000                  jz      usage
6681382d2d                    cmp     word ptr [rax], 0x2d2d  # "--"
750a                          jne     named
80780200                      cmp     byte ptr [rax+2], 0
7504                          jne     named
4983c408                      add     r12, 8
4d8b3424              named:  mov     r14, [r12]
4d85f6                        test    r14, r14
0f840d020000                  jz      usage
4881ec00200000                sub     rsp, 8192               # room for a path, a signal set, a status, a siginfo
4889e5                        mov     rbp, rsp
48c74500ffffffff              mov     qword ptr [rbp], -1     # all signals wait until we ask for them
e80d020000                    call    mask
b839000000                    mov     eax, 57                 # fork
0f05                          syscall
4885c0                        test    rax, rax
0f88e6010000                  js      broken
7470                          jz      child
89c3                          mov     ebx, eax
48c74500ffffffff      wait:   mov     qword ptr [rbp], -1
4889ef                        mov     rdi, rbp                # the set
31f6                          xor     esi, esi                # no siginfo
31d2                          xor     edx, edx                # no timeout
41ba08000000                  mov     r10d, 8
b880000000                    mov     eax, 128                # rt_sigtimedwait
0f05                          syscall
83f811                        cmp     eax, 17                 # SIGCHLD
7411                          je      reap
85c0                          test    eax, eax
78db                          js      wait                    # EINTR
89c6                          mov     esi, eax                # any other one is the child's
89df                          mov     edi, ebx
b83e000000                    mov     eax, 62                 # kill
0f05                          syscall
ebce                          jmp     wait
bfffffffff            reap:   mov     edi, -1                 # whoever has ended, ours or an orphan
488d7508                      lea     rsi, [rbp+8]
ba01000000                    mov     edx, 1                  # WNOHANG
4531d2                        xor     r10d, r10d
b83d000000                    mov     eax, 61                 # wait4
0f05                          syscall
85c0                          test    eax, eax
7eb2                          jle     wait
39d8                          cmp     eax, ebx
75e0                          jne     reap
8b4508                        mov     eax, [rbp+8]            # its status becomes ours
89c7                          mov     edi, eax
83e77f                        and     edi, 0x7f
7408                          jz      exited
81c780000000                  add     edi, 128                # a signal
eb03                          jmp     exit
0fb6fc                exited: movzx   edi, ah
b8e7000000            exit:   mov     eax, 231                # exit_group
0f05                          syscall
                      # The child: a process group of its own, in the foreground if there is a terminal.
31ff                  child:  xor     edi, edi
31f6                          xor     esi, esi
b86d000000                    mov     eax, 109                # setpgid
0f05                          syscall
b827000000                    mov     eax, 39                 # getpid
0f05                          syscall
894508                        mov     [rbp+8], eax
31ff                          xor     edi, edi
be10540000                    mov     esi, 0x5410             # TIOCSPGRP
488d5508                      lea     rdx, [rbp+8]
b810000000                    mov     eax, 16                 # ioctl
0f05                          syscall
48c7450000000000              mov     qword ptr [rbp], 0
e857010000                    call    mask
41bf02000000                  mov     r15d, 2                 # ENOENT, until something better is known
4c89f7                        mov     rdi, r14
8a07                  slash:  mov     al, [rdi]
48ffc7                        inc     rdi
3c2f                          cmp     al, '/'
0f84bc000000                  je      direct
84c0                          test    al, al
75ef                          jnz     slash
41803e00                      cmp     byte ptr [r14], 0
0f84c3000000                  je      failed
498b4500              find:   mov     rax, [r13]              # PATH= among the variables
4885c0                        test    rax, rax
0f84b6000000                  jz      failed
4983c508                      add     r13, 8
813850415448                  cmp     dword ptr [rax], 0x48544150
75e7                          jne     find
8078043d                      cmp     byte ptr [rax+4], '='
75e1                          jne     find
488d7005                      lea     rsi, [rax+5]
4983ed08              back:   sub     r13, 8                  # to the start of the array again
49837df800                    cmp     qword ptr [r13-8], 0    # (the word before it is argv's end)
75f5                          jne     back
488d7d10              each:   lea     rdi, [rbp+16]           # a directory
488d8d401f0000                lea     rcx, [rbp+8000]
8a06                  copy:   mov     al, [rsi]
84c0                          test    al, al
7413                          jz      copied
3c3a                          cmp     al, ':'
740f                          je      copied
8807                          mov     [rdi], al
48ffc7                        inc     rdi
48ffc6                        inc     rsi
4839cf                        cmp     rdi, rcx
7373                          jae     failed
ebe7                          jmp     copy
488d5510              copied: lea     rdx, [rbp+16]
4839d7                        cmp     rdi, rdx
7506                          jne     join
c6072e                        mov     byte ptr [rdi], '.'     # an empty one is this one
48ffc7                        inc     rdi
c6072f                join:   mov     byte ptr [rdi], '/'
48ffc7                        inc     rdi
4c89f2                        mov     rdx, r14
8a02                  name:   mov     al, [rdx]
8807                          mov     [rdi], al
48ffc7                        inc     rdi
48ffc2                        inc     rdx
4839cf                        cmp     rdi, rcx
734a                          jae     failed
84c0                          test    al, al
75ed                          jnz     name
56                            push    rsi
488d7d10                      lea     rdi, [rbp+16]
4c89e6                        mov     rsi, r12
4c89ea                        mov     rdx, r13
b83b000000                    mov     eax, 59                 # execve
0f05                          syscall
5e                            pop     rsi
f7d8                          neg     eax
83f802                        cmp     eax, 2                  # ENOENT
740d                          je      next
83f814                        cmp     eax, 20                 # ENOTDIR
7408                          je      next
4189c7                        mov     r15d, eax
83f80d                        cmp     eax, 13                 # EACCES: there may be another one
751f                          jne     failed
803e00                next:   cmp     byte ptr [rsi], 0
741a                          je      failed
48ffc6                        inc     rsi
eb80                          jmp     each
4c89f7                direct: mov     rdi, r14
4c89e6                        mov     rsi, r12
4c89ea                        mov     rdx, r13
b83b000000                    mov     eax, 59                 # execve
0f05                          syscall
f7d8                          neg     eax
4189c7                        mov     r15d, eax
                      # What could not be executed, for whom it may concern.
488d3581000000        failed: lea     rsi, [rip+before]
ba12000000                    mov     edx, offset after - before
e852000000                    call    say
4c89f6                        mov     rsi, r14
31d2                          xor     edx, edx
803c1600              length: cmp     byte ptr [rsi+rdx], 0
7404                          je      tell
ffc2                          inc     edx
ebf6                          jmp     length
e83e000000            tell:   call    say
bf7f000000                    mov     edi, 127
488d3569000000                lea     rsi, [rip+after]
ba23000000                    mov     edx, offset other - after
4183ff02                      cmp     r15d, 2
7411                          je      last
bf7e000000                    mov     edi, 126
488d3575000000                lea     rsi, [rip+other]
ba1f000000                    mov     edx, offset end - other
57                    last:   push    rdi
e810000000                    call    say
5f                            pop     rdi
e985feffff                    jmp     exit
                      usage:
bf01000000            broken: mov     edi, 1
e97bfeffff                    jmp     exit
bf02000000            say:    mov     edi, 2
b801000000                    mov     eax, 1                  # write
0f05                          syscall
c3                            ret
bf02000000            mask:   mov     edi, 2                  # SIG_SETMASK
4889ee                        mov     rsi, rbp
31d2                          xor     edx, edx
41ba08000000                  mov     r10d, 8
b80e000000                    mov     eax, 14                 # rt_sigprocmask
0f05                          syscall
c3                            ret
646f636b65722d696e69  before: .ascii  "docker-init: exec "
743a206578656320
206661696c65643a204e  after:  .ascii  " failed: No such file or directory\\n"
6f20737563682066696c
65206f72206469726563
746f72790a
206661696c65643a2069  other:  .ascii  " failed: it cannot be executed\\n"
742063616e6e6f742062
65206578656375746564
0a
                      end:
"""

_PROGRAM: Final = Program("docker-init", {"x86_64": _X86_64})

code = _PROGRAM.code
source = _PROGRAM.source
executable = _PROGRAM.executable
write = _PROGRAM.write
