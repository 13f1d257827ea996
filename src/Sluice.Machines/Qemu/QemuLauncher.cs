namespace Sluice.Machines.Qemu;

/// <summary>Where QEMU is. Fetching it is <c>eng/qemu.sh</c>'s work; this only looks where that puts it.</summary>
public static class QemuLauncher
{
    /// <summary>
    /// The program that starts QEMU: what <c>SLUICE_QEMU</c> names, else the one in the cache folder
    /// (<c>SLUICE_CACHE</c>, else <c>sluice</c> in <c>XDG_CACHE_HOME</c>, else in <c>~/.cache</c>); null when there is
    /// none.
    /// </summary>
    public static string? Find()
    {
        if (Environment.GetEnvironmentVariable("SLUICE_QEMU") is { Length: > 0 } own) { return own; }
        string cached = Path.Combine(CacheFolder(), "qemu", "qemu", "qemu-system-x86_64");
        return File.Exists(cached) ? cached : null;
    }

    private static string CacheFolder()
    {
        if (Environment.GetEnvironmentVariable("SLUICE_CACHE") is { Length: > 0 } cache) { return cache; }
        string root = Environment.GetEnvironmentVariable("XDG_CACHE_HOME") is { Length: > 0 } xdg
            ? xdg
            : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache");
        return Path.Combine(root, "sluice");
    }
}
