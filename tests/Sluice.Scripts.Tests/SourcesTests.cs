namespace Sluice.Scripts.Tests;

/// <summary>
/// Which archive the system's package sources name, read from the files as apt reads them, without its lists: these
/// know nothing where 'apt-get update' never ran. Seen failing: with any one rule of the reader taken out (comments,
/// continued lines, types, security, components, architectures, line ends, tabs, options, cdrom, order, file names, the
/// last stanza).
/// </summary>
public sealed class SourcesTests : IDisposable
{
    private readonly Folder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void StanzasAsImagesBringThem() => Names(["http://mirror.one/debian"], "debian.sources", """
        Types: deb
        # http://snapshot.invalid/archive/debian/20250520T000000Z
        URIs: http://mirror.one/debian
        Suites: bookworm bookworm-updates
        Components: main
        Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

        Types: deb
        URIs: http://mirror.one/debian-security
        Suites: bookworm-security
        Components: main
        Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
        """);

    // Continued lines, tabs, any spelling of names, several addresses, a comment in the middle of a field.
    [Fact]
    public void StanzasAsPeopleWriteThem() => Names(
        ["http://a/debian", "mirror+file:/etc/apt/mirrors/b.list"], "my.sources", """
        enabled: yes
        TYPES: deb-src
        	deb
        uris:
         http://a/debian/
        # http://no/debian
         mirror+file:/etc/apt/mirrors/b.list
        Suites:	bookworm-backports
        Components: contrib main
        Architectures: arm64 amd64
        """);

    [Theory]
    [InlineData("Enabled: no")]
    [InlineData("Enabled: FALSE")]
    [InlineData("Types: deb-src")]
    [InlineData("Components: contrib")]
    [InlineData("Suites: bookworm-security")]
    [InlineData("Suites: bookworm/updates")]
    [InlineData("Architectures: arm64")]
    [InlineData("URIs: cdrom:[Debian GNU/Linux 12]/")]
    public void StanzasThatDoNotCount(string line)
    {
        string stanza = "Types: deb\nURIs: http://a/debian\nSuites: bookworm\nComponents: main\n";
        string name = line.Split(':')[0];
        Names(["http://a/debian"], "a.sources", stanza);
        Names([], "a.sources", string.Concat(stanza.Split('\n')
            .Where(each => each.Length > 0 && !each.StartsWith(name + ":", StringComparison.Ordinal))
            .Append(line).Select(static each => each + "\n")));
    }

    // A stanza's comment that holds an empty line's place does not end it; lines may end as on Windows.
    [Fact]
    public void CommentsAndCarriageReturns() => Names(["http://a/debian"], "a.sources",
        "Types: deb\r\n#\r\nURIs: http://a/debian\r\nSuites: bookworm\r\nComponents: main\r\n\r\nTypes: deb\r\n");

    [Theory]
    [InlineData("deb http://a/debian bookworm main")]
    [InlineData("deb\thttp://a/debian/\tbookworm-updates  main contrib # mine")]
    [InlineData("  deb [ arch=arm64,amd64 trusted=yes ] http://a/debian bookworm non-free main")]
    [InlineData("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://a/debian stable main")]
    public void LinesThatCount(string line) => Names(["http://a/debian"], "a.list", line);

    [Theory]
    [InlineData("# deb http://a/debian bookworm main")]
    [InlineData("deb-src http://a/debian bookworm main")]
    [InlineData("deb http://a/debian-security bookworm-security main")]
    [InlineData("deb http://a/debian-security bookworm/updates main")]
    [InlineData("deb http://a/debian bookworm contrib")]
    [InlineData("deb [arch=arm64] http://a/debian bookworm main")]
    [InlineData("deb cdrom:[Debian GNU/Linux 12 _Bookworm_ - Official amd64 DVD]/ bookworm main")]
    [InlineData("deb cdrom:/ bookworm main")]
    [InlineData("deb http://a/debian bookworm contrib # main")]
    [InlineData("deb http://a/flat ./")]
    [InlineData("deb http://a/flat /")]
    [InlineData("debauched http://a/debian bookworm main")]
    [InlineData("")]
    public void LinesThatDoNot(string line) => Names([], "a.list", line);

    // Others name Debian's releases too. Debian's key goes first, then no key, then somebody's key; ours before other
    // releases.
    [Fact]
    public void TheLikeliestComesFirst()
    {
        _folder.Write("apt/sources.list", "deb http://old/debian stable main\n");
        _folder.Write("apt/sources.list.d/a.list", """
            deb [arch=amd64 signed-by=/etc/apt/keyrings/docker.asc] http://a/linux/debian bookworm stable
            deb [arch=amd64 signed-by=/usr/share/keyrings/microsoft.gpg] http://b/prod bookworm main
            deb http://c/debian bookworm main
            """);
        Names(["http://z/debian", "http://c/debian", "http://b/prod", "http://old/debian"], "z.sources", """
            Types: deb
            URIs: http://z/debian http://c/debian
            Suites: bookworm
            Components: main
            Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
            """);
    }

    // As apt does: the endings .list and .sources, and no other characters in a name.
    [Fact]
    public void FilesThatAptDoesNotRead()
    {
        const string Line = "deb http://a/debian bookworm main\n";
        _folder.Write("apt/sources.list.d/a.list.disabled", Line);
        _folder.Write("apt/sources.list.d/a b.list", Line);
        _folder.Write("apt/sources.list.d/.a.list", Line);
        Names([], "a.list~", Line);
    }

    private void Names(string[] expected, string file, string content)
    {
        Assert.SkipUnless(Script.Has("apt-config"), "no apt here");
        _folder.Write("apt/sources.list.d/" + file, content + "\n");
        string configuration = _folder.Write("apt.conf", $"Dir::Etc \"{_folder.Path}/apt\";\n");
        string eng = Script.Quote(Path.Combine(Script.Root, "eng", "archive.sh"));
        Outcome outcome = Script.Run(_folder.Path,
            $"set -u -o pipefail; me=t instead=t; . {eng}; archives bookworm amd64", ("APT_CONFIG", configuration));
        Assert.Equal("", outcome.Error);
        Assert.Equal(expected, outcome.Outputs);
    }
}
