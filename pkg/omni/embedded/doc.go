// Package embedded is an Omni in the process.
package embedded
