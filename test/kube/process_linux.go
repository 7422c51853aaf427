package kube

import "syscall"

// endsWithParent makes a process end with the thread that started it.
func endsWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
