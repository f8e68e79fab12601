// SPDX-License-Identifier: GPL-3.0-or-later
// A shared library that may be absent, loaded at run time. It stays loaded: drivers keep threads of their own.
#pragma once
#include <dlfcn.h>

#include <string>

namespace winnow::cuda {

class Library {
 public:
  explicit Library(const std::string& path) : handle_(dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) {}
  bool loaded() const { return handle_ != nullptr; }
  template <class Function>
  void find(const char* name, Function*& function) const {  // null when the library has none of the name
    function = handle_ ? reinterpret_cast<Function*>(dlsym(handle_, name)) : nullptr;
  }

 private:
  void* handle_;
};

}  // namespace winnow::cuda
