using Microsoft.Win32.SafeHandles;

namespace Sluice.Cli;

/// <summary>Room for the files that a machine needs, seen to before there is one.</summary>
internal static class OpenFiles
{
    // A run takes up to 40 more than the command line does: parts of the program, and QEMU's sockets and pipes.
    private const int Needed = 48;

    /// <summary>
    /// Returns when as many files may still be opened as a machine needs. In the middle of its work the runtime answers
    /// a missing one with anything: parts that do not load, threads that do not start, or the end of the process.
    /// </summary>
    /// <exception cref="CommandException">So many may not be opened.</exception>
    public static void RequireRoom()
    {
        const string Nothing = "/dev/null";
        if (!File.Exists(Nothing)) { return; }
        SafeFileHandle?[] files = new SafeFileHandle?[Needed];
        try
        {
            for (int i = 0; i < Needed; i++)
            {
                files[i] = File.OpenHandle(Nothing, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
            }
        }
        catch (IOException)
        {
            throw new CommandException(
                $"a machine needs {Needed} more open files, and the limit leaves fewer; raise it, as with "
                + "'ulimit -n 1024'");
        }
        finally
        {
            foreach (SafeFileHandle? file in files) { file?.Dispose(); }
        }
    }
}
