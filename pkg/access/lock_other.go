//go:build !unix || solaris || aix

package access

import "os"

func lockDirectory(root *os.Root, name string) (*os.File, error) {
	return root.OpenFile(name, os.O_RDWR|os.O_CREATE, newFile)
}
