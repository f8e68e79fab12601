// SPDX-License-Identifier: GPL-3.0-or-later
#include "tests/cuda_emulation/fiber.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulator {

#if defined(__x86_64__)
// Saves the registers a call must preserve and the stack pointer, and takes up another stack where it was left.
extern "C" void winnowEmulatorSwitch(void** save, void* to);
asm(R"(
.text
.p2align 4
.globl winnowEmulatorSwitch
.type winnowEmulatorSwitch,@function
winnowEmulatorSwitch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size winnowEmulatorSwitch,.-winnowEmulatorSwitch
)");
struct Fiber::Context {
  void* stackPointer = nullptr;
};
#else
struct Fiber::Context {
  ucontext_t context;
};
#endif

namespace {

struct Main {  // the stack that resumes fibers
#if defined(__x86_64__)
  void* stackPointer = nullptr;
#else
  ucontext_t context;
#endif
  Fiber* current = nullptr;
  const void* bottom = nullptr;  // for the address sanitizer
  size_t size = 0;
};
Main main;

// The sanitizer must know on which stack the program runs.
void leaving([[maybe_unused]] void** saved, [[maybe_unused]] const void* bottom, [[maybe_unused]] size_t size) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(saved, bottom, size);
#endif
}
void arrived([[maybe_unused]] void* saved, [[maybe_unused]] const void** bottom, [[maybe_unused]] size_t* size) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(saved, bottom, size);
#endif
}

// A fault leaves frames behind that nobody returned from.
void forgetFrames([[maybe_unused]] char* stack, [[maybe_unused]] size_t size) {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(stack, size);
#endif
}

constexpr size_t kGuardBytes = 4096;

}  // namespace

Fiber::Fiber(void (*entry)()) : entry_(entry), context_(new Context) {
  void* p = mmap(nullptr, kStackBytes + kGuardBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  mprotect(p, kGuardBytes, PROT_NONE);  // a stack that grows too far is a fault, not a surprise
  stack_ = static_cast<char*>(p) + kGuardBytes;
  restart();
}

Fiber::~Fiber() {
  munmap(stack_ - kGuardBytes, kStackBytes + kGuardBytes);
  delete context_;
}

void Fiber::enter() {
  arrived(nullptr, &main.bottom, &main.size);
  main.current->entry_();
  __builtin_trap();  // an entry suspends at its end
}

#if defined(__x86_64__)
void Fiber::restart() {
  forgetFrames(stack_, kStackBytes);
  auto* top = reinterpret_cast<void**>(stack_ + kStackBytes);
  *--top = nullptr;  // where enter() would return to
  *--top = reinterpret_cast<void*>(&Fiber::enter);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  context_->stackPointer = top;
}

void Fiber::resume() {
  main.current = this;
  void* saved = nullptr;
  leaving(&saved, stack_, kStackBytes);
  winnowEmulatorSwitch(&main.stackPointer, context_->stackPointer);
  arrived(saved, nullptr, nullptr);
}

void Fiber::suspend() {
  void* saved = nullptr;
  leaving(&saved, main.bottom, main.size);
  winnowEmulatorSwitch(&main.current->context_->stackPointer, main.stackPointer);
  arrived(saved, &main.bottom, &main.size);
}
#else
void Fiber::restart() {
  forgetFrames(stack_, kStackBytes);
  getcontext(&context_->context);
  context_->context.uc_stack = {stack_, 0, kStackBytes};
  context_->context.uc_link = nullptr;
  makecontext(&context_->context, &Fiber::enter, 0);
}

void Fiber::resume() {
  main.current = this;
  void* saved = nullptr;
  leaving(&saved, stack_, kStackBytes);
  swapcontext(&main.context, &context_->context);
  arrived(saved, nullptr, nullptr);
}

void Fiber::suspend() {
  void* saved = nullptr;
  leaving(&saved, main.bottom, main.size);
  swapcontext(&main.current->context_->context, &main.context);
  arrived(saved, &main.bottom, &main.size);
}
#endif

}  // namespace emulator
