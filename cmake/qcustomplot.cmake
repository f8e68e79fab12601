# SPDX-License-Identifier: GPL-3.0-or-later
# QCustomPlot built for Qt 6, as the target QCustomPlotQt6::QCustomPlotQt6. Debian (from 12) and Ubuntu (from 24.04) ship it with a CMake
# package in libqcustomplot-dev; Fedora and others as a library alone. The plain name is the Qt 5 build and does not link here.
find_package(QCustomPlotQt6 QUIET)
if(NOT TARGET QCustomPlotQt6::QCustomPlotQt6)
  find_library(WINNOW_QCUSTOMPLOT_LIBRARY NAMES QCustomPlotQt6 qcustomplot-qt6)
  find_path(WINNOW_QCUSTOMPLOT_HEADERS qcustomplot.h PATH_SUFFIXES qt6 qcustomplot qcustomplot-qt6)
  if(NOT WINNOW_QCUSTOMPLOT_LIBRARY OR NOT WINNOW_QCUSTOMPLOT_HEADERS)
    message(FATAL_ERROR "QCustomPlot for Qt 6 was not found: neither a CMake package QCustomPlotQt6 nor a library QCustomPlotQt6 or qcustomplot-qt6 with qcustomplot.h. "
                        "Debian 12, Ubuntu 24.04 and later: libqcustomplot-dev. Elsewhere: build QCustomPlot 2.1 as a shared library against Qt 6 and name its "
                        "prefix with -DCMAKE_PREFIX_PATH. A QCustomPlot built for Qt 5 will not do.")
  endif()
  add_library(QCustomPlotQt6::QCustomPlotQt6 UNKNOWN IMPORTED)
  set_target_properties(QCustomPlotQt6::QCustomPlotQt6 PROPERTIES
    IMPORTED_LOCATION ${WINNOW_QCUSTOMPLOT_LIBRARY} INTERFACE_INCLUDE_DIRECTORIES ${WINNOW_QCUSTOMPLOT_HEADERS}
    INTERFACE_COMPILE_DEFINITIONS QCUSTOMPLOT_USE_LIBRARY INTERFACE_LINK_LIBRARIES "Qt6::Widgets;Qt6::PrintSupport")
endif()
