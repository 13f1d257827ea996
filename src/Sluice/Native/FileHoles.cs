using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Sluice;

/// <summary>Gives parts of a file back to its file system: what was there reads as zeros and takes no room.</summary>
/// <remarks>Linux' <c>fallocate</c>, on 64-bit processes; elsewhere nothing can be given back. Safe from any thread.</remarks>
public static class FileHoles
{
    private const int KeepSize = 1;
    private const int PunchHole = 2;
    private const int Interrupted = 4;
    private const int MostAttempts = 100;

    /// <summary>Makes a hole. The file's length stays as it is, also where the hole reaches past it.</summary>
    /// <param name="file">A file that is open for writing; stays the caller's.</param>
    /// <param name="offset">The first byte, from 0 up.</param>
    /// <param name="length">How many, at least 1.</param>
    /// <returns>
    /// Whether the bytes read as zeros now. Not where the file, its file system or this system has no holes, and not on
    /// an error of the medium; some of the bytes may be zeros then.
    /// </returns>
    /// <exception cref="ArgumentOutOfRangeException">The range is none.</exception>
    public static bool TryPunch(SafeFileHandle file, long offset, long length)
    {
        ArgumentNullException.ThrowIfNull(file);
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(length);
        if (!OperatingSystem.IsLinux() || !Environment.Is64BitProcess) { return false; }
        for (int attempt = 0; attempt < MostAttempts; attempt++)
        {
            if (LibC.Allocate(file, PunchHole | KeepSize, offset, length) == 0) { return true; }
            if (Marshal.GetLastPInvokeError() != Interrupted) { return false; }
        }
        return false;
    }
}
