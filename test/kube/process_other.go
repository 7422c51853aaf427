//go:build !linux

package kube

import "syscall"

func endsWithParent() *syscall.SysProcAttr { return nil }
