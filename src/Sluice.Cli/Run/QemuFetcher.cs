using System.Diagnostics;
using Sluice.Machines.Qemu;

namespace Sluice.Cli.Run;

/// <summary>Finds QEMU, or has the checkout's own script bring it.</summary>
internal static class QemuFetcher
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(10);

    /// <summary>The program that starts QEMU.</summary>
    /// <exception cref="CommandException">It is not there and cannot be brought.</exception>
    public static string Require(Terminal terminal)
    {
        if (QemuLauncher.Find() is { } found) { return found; }
        string script = FindScript()
            ?? throw new CommandException("QEMU is not there; set SLUICE_QEMU to a qemu-system-x86_64 of version 11 or newer");
        terminal.Remark("sluice run: QEMU is not there yet; fetching it once, this takes about ten seconds…");
        ProcessStartInfo start = new(script) { RedirectStandardOutput = true, RedirectStandardError = true };
        using Process process = Process.Start(start)!;
        void End(object? sender, EventArgs e) => process.Kill(entireProcessTree: true);
        AppDomain.CurrentDomain.ProcessExit += End;
        try { return Await(script, process); }
        finally { AppDomain.CurrentDomain.ProcessExit -= End; }
    }

    private static string Await(string script, Process process)
    {
        Task<string> said = process.StandardError.ReadToEndAsync();
        string launcher = process.StandardOutput.ReadToEnd().Trim();
        if (!process.WaitForExit(Patience))
        {
            process.Kill(entireProcessTree: true);
            throw new CommandException($"{script} did not end within {Patience.TotalMinutes:0} minutes");
        }
        return process.ExitCode == 0 && launcher.Length != 0
            ? launcher
            : throw new CommandException($"QEMU cannot be had: {ErrorText.OneLine(said.Result)}");
    }

    private static string? FindScript()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            string script = Path.Combine(folder.FullName, "eng", "qemu.sh");
            if (File.Exists(script)) { return script; }
        }
        return null;
    }
}
